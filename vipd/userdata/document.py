"""User data for a distribution, within EC2's limit."""

from __future__ import annotations

from collections.abc import Callable

from vipd.config.model_userdata import NodeOs, UserdataSettings
from vipd.errors import ConfigError
from vipd.userdata.amazon import al2, al2023
from vipd.userdata.bottlerocket import bottlerocket
from vipd.userdata.ubuntu import ubuntu

LIMIT = 16 * 1024
"""Bytes of user data before base64 (EC2 User Guide, "Run commands when you launch an EC2 instance with user data")."""

_DOCUMENTS: dict[NodeOs, Callable[[UserdataSettings], str]] = {
    NodeOs.AL2023: al2023,
    NodeOs.AL2: al2,
    NodeOs.UBUNTU: ubuntu,
    NodeOs.BOTTLEROCKET: bottlerocket,
}


def render(settings: UserdataSettings) -> str:
    """The text.  Raises ConfigError where EC2 would refuse it."""
    text = _DOCUMENTS[settings.os](settings)
    size = len(text.encode())
    if size > LIMIT:
        raise ConfigError(
            f"--vip: {len(settings.vips)} VIPs and the rest make {size} bytes of user data; allowed: {LIMIT} bytes"
        )
    return text
