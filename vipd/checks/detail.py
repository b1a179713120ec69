"""What a failed attempt says: one short line that can stand in a log, a label of a metric, or an Event."""

from __future__ import annotations

import os
import socket
import ssl

LONGEST = 200
"""Characters of a detail."""


def one_line(text: str) -> str:
    """The text as one printable line of at most LONGEST characters."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return clean if len(clean) <= LONGEST else clean[: LONGEST - 3] + "..."


def why(error: OSError) -> str:
    """The words of the kernel, the resolver or TLS for it, without the address that asyncio puts into them."""
    if isinstance(error, socket.gaierror | ssl.SSLError):
        # Their numbers are not those of errno.
        return one_line(error.strerror or str(error))
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return one_line(error.strerror or str(error) or type(error).__name__)
