"""Building frames in a child process that ends at once, so that this one never loads scapy."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence

from vipd.core.model import Address

BUILD_TIMEOUT_S = 20.0
"""Ten times what importing scapy takes on a slow, busy node."""


async def build_in_child(
    pairs: Sequence[tuple[Address, str]], *, timeout_s: float = BUILD_TIMEOUT_S
) -> list[tuple[bytes, ...]]:
    """The announcements of all pairs of address and MAC, in their order.

    Raises OSError (TimeoutError among them) or ValueError where the child could not do it.
    """
    arguments = [text for address, mac in pairs for text in (str(address), mac)]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "vipd.announce.frames",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # The child is to find the very modules of this process, wherever it was started.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await child.communicate()
    except BaseException:
        if child.returncode is None:
            child.kill()
            await child.wait()
        raise
    if child.returncode != 0:
        words = err.decode(errors="replace").strip().splitlines()
        raise ValueError(f"exit code {child.returncode}: {words[-1] if words else 'no message'}")
    built = [tuple(bytes.fromhex(frame) for frame in frames) for frames in json.loads(out)]
    if len(built) != len(pairs):
        raise ValueError(f"{len(built)} announcements for {len(pairs)} addresses")
    return built
