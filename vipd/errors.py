"""The project's own exceptions: each says what was tried, on what, and what to do about it.

Every one maps to an exit code of the command line contract: 0 done, 1 failed at run time,
2 wrong usage or configuration, 3 ran out of the time given.
"""

from __future__ import annotations


class VipdError(Exception):
    """Failed at run time (exit code 1)."""

    exit_code = 1


class ConfigError(VipdError):
    """Wrong usage or configuration (exit code 2): the message names the key, the value and what is allowed."""

    exit_code = 2


class TimeUp(VipdError):
    """The time given is over (exit code 3): the message says what was still missing."""

    exit_code = 3


class LinkError(VipdError):
    """The kernel refused an address or link operation."""


class AnnounceError(VipdError):
    """An announcement (GARP or unsolicited NA) could not be sent."""


class AwsError(VipdError):
    """IMDS or EC2 could not be used at all: no credentials, no region, no ENI."""


class KubeError(VipdError):
    """The Kubernetes API cannot be used: no configuration, refused, unreachable at start."""
