"""``vipd`` as a process of its own, with a kubeconfig."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path


async def vipd(config: Path, *argv: str) -> asyncio.subprocess.Process:
    """Started; stdout and stderr are pipes."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "vipd",
        *argv,
        env=environ | {"KUBECONFIG": str(config), "PYTHONFAULTHANDLER": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # A shell has its background jobs ignore Ctrl-C, and what they start inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    """Exit code, stdout, stderr.  One that does not end is made to say where it is."""
    communicated = asyncio.create_task(process.communicate())
    await asyncio.wait([communicated], timeout=30)
    in_time = communicated.done()
    if not in_time:
        process.send_signal(signal.SIGABRT)
    out, err = await communicated
    assert in_time, f"it does not end: {err.decode()}"
    return process.returncode, out.decode(), err.decode()
