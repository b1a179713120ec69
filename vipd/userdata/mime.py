"""MIME multi-part user data: how EKS nodes of Amazon Linux get several kinds of it at once.

Managed node groups put their own part to ours; nodeadm (AL2023) takes the parts application/node.eks.aws, cloud-init
the scripts (nodeadm's documentation; cloud-init, "User data formats").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

BOUNDARY = "==vipd-user-data=="


class Part(NamedTuple):
    """One part."""

    content_type: str
    text: str


def multipart(parts: Sequence[Part]) -> str:
    """The parts in their order.  The boundary is always the same, so that the same flags give the same text."""
    if any(f"--{BOUNDARY}" in part.text for part in parts):
        raise ValueError("a part has the boundary in it")
    lines = [f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="{BOUNDARY}"\n\n']
    for part in parts:
        lines.append(f'--{BOUNDARY}\nContent-Type: {part.content_type}; charset="us-ascii"\n\n{part.text}\n')
    return "".join([*lines, f"--{BOUNDARY}--\n"])
