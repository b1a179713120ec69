"""MIME multi-part user data, as cloud-init and nodeadm read it and as EKS merges it with its own.

A launch template of a managed node group has to be this, or EKS refuses it (EKS User Guide, "Customize managed nodes
with launch templates").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BOUNDARY = "==VIPD-USERDATA=="
"""Fixed: the same settings make the same text, and a launch template does not change without reason."""

SHELL = "text/x-shellscript"
NODE_CONFIG = "application/node.eks.aws"


@dataclass(frozen=True, slots=True)
class Part:
    """One part."""

    kind: str
    """The media type, by which cloud-init and nodeadm know whose it is."""
    text: str


def multipart(parts: Sequence[Part]) -> str:
    """The document.  Every part is ASCII and ends with a line end."""
    head = f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="{BOUNDARY}"\n\n'
    return head + "".join(_part(part) for part in parts) + f"--{BOUNDARY}--\n"


def _part(part: Part) -> str:
    if not part.text.isascii() or any(line.startswith(f"--{BOUNDARY}") for line in part.text.splitlines()):
        raise ValueError(f"a part of type {part.kind} is not ASCII, or has the boundary in it")
    return f'--{BOUNDARY}\nContent-Type: {part.kind}; charset="us-ascii"\n\n{part.text}\n'
