"""What user data leaves on a node: files, and the units among them that are to run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vipd.userdata.parts import part

PROGRAMS = "/usr/local/sbin"
UNITS = "/etc/systemd/system"


@dataclass(frozen=True, slots=True)
class NodeFile:
    """One file."""

    path: str
    mode: str
    """Octal, four digits."""
    content: str
    unit: str = ""
    """The unit's name, where it is one."""


def program(name: str, content: str) -> NodeFile:
    """An executable script."""
    return NodeFile(f"{PROGRAMS}/{name}", "0755", content)


def unit(name: str, source: str = "") -> NodeFile:
    """A systemd unit that is started now and with each boot.  ``source``: the part, where its name differs."""
    return NodeFile(f"{UNITS}/{name}", "0644", part(source or name), unit=name)


def starting(files: Iterable[NodeFile]) -> tuple[tuple[str, ...], ...]:
    """The commands that start the units.

    Not waited for (--no-block): cloud-init runs this, and what a unit waits for may be started when cloud-init is
    through, as nodeadm-run.service and with it the kubelet are (After=cloud-final.service): both would wait for ever.
    """
    names = tuple(file.unit for file in files if file.unit)
    return (
        ("systemctl", "daemon-reload"),
        ("systemctl", "enable", *names),
        ("systemctl", "start", "--no-block", *names),
    )
