"""``vipd`` as a process of its own, with a kubeconfig."""

from __future__ import annotations

import asyncio
import os
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
        env=environ | {"KUBECONFIG": str(config)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    """Exit code, stdout, stderr."""
    async with asyncio.timeout(20):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()
