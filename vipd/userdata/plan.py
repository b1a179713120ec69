"""What user data leaves on a node: files, and the systemd units that run.  How that is written is each system's own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class File:
    """One file."""

    path: str
    text: str
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it, in order."""

    files: tuple[File, ...] = ()
    units: tuple[str, ...] = ()
    """Enabled, and started without waiting for them."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Run after that."""

    def __add__(self, other: Plan) -> Plan:
        return Plan(self.files + other.files, self.units + other.units, self.commands + other.commands)


SBIN, UNITS = "/usr/local/sbin", "/etc/systemd/system"
