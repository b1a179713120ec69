"""Somebody at a terminal who reaches the Kubernetes API and nothing else: runs ``vipd`` commands against the lab."""

from __future__ import annotations

import asyncio
import sys
from typing import NamedTuple

from vipd.lab.topology import NAMESPACE, Lab

NAME = "operator"
RIGHTS = {
    *((verb, "leases") for verb in ("get", "list", "watch", "patch")),
    ("list", "pods"),
    ("list", "nodes"),
}
"""What an operator of vipd needs."""


class Said(NamedTuple):
    """How a command ended."""

    code: int | None
    out: str
    err: str


async def run_vipd(lab: Lab, *argv: str, within_s: float = 30.0) -> Said:
    """Run ``vipd`` with these arguments on the management network.  Raises TimeoutError."""
    token = await lab.api.add_account(NAMESPACE, NAME, RIGHTS)
    config = lab.write_kubeconfig(NAME, token)
    process = await lab.control.space.spawn(
        [sys.executable, "-m", "vipd", *argv],
        env=lab.bare_environment() | {"KUBECONFIG": str(config)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(within_s):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Said(process.returncode, out.decode(), err.decode())
