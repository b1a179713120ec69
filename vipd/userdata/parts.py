"""The shell scripts and systemd units beside this file, which are the same on every node.

What differs is assigned in front of them, so that values meet exactly one quoting: the shell's.  Scripts are POSIX sh:
they run with bash, dash (Ubuntu) and busybox (most images for Bottlerocket) alike.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib.resources import files

HEADER = "#!/bin/sh\n# Written by vipd userdata.\nset -eu\n"


def part(name: str) -> str:
    """A file of the package."""
    return files("vipd.userdata").joinpath("parts", name).read_text(encoding="ascii")


def script(values: Mapping[str, str], *names: str, arguments: tuple[str, ...] = ()) -> str:
    """A script: assignments, positional parameters where there are any, and the parts in their order."""
    assigned = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    return HEADER + assigned + _set(arguments) + "".join(part(name) for name in names)


def _set(arguments: tuple[str, ...]) -> str:
    return f"set -- {' '.join(shlex.quote(argument) for argument in arguments)}\n" if arguments else ""
