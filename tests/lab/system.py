"""What the system tests share: a lab for one test, and vipd processes in it that are judged by exit code and log."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from vipd.lab.setting import Node
from vipd.lab.topology import LISTEN_PORT, Lab

VIPD = [sys.executable, "-m", "vipd", "lab"]

FETCH = (
    "import sys, urllib.request as u, urllib.error as e\n"
    "try: r = u.urlopen(sys.argv[1], timeout=5)\n"
    "except e.HTTPError as error: r = error\n"
    "print(r.status); print(r.read().decode())"
)


def environment() -> dict[str, str]:
    """As from outside of any sandbox."""
    return {key: value for key, value in os.environ.items() if key != "IN_VIPD_LAB_SANDBOX"}


def log_lines(node: Node) -> list[dict[str, Any]]:
    """The log of a node's vipd, parsed."""
    return [json.loads(line) for line in node.log.read_text().splitlines()]


async def ended(lab: Lab, node: Node, *extra: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a vipd that is to end by itself: its exit code, and the last thing that it said."""
    await lab.start_vipd(node, *extra, env=env)
    assert node.vipd is not None
    code = await asyncio.wait_for(node.vipd.wait(), 30)
    # Another vipd of this node may write to the same log: only the line that tells of an end counts.
    said = [line for line in node.log.read_text().splitlines() if "exit_code" in line or line.startswith("vipd: ")]
    return code, json.loads(said[-1])["msg"] if said[-1].startswith("{") else said[-1]


async def eventually(true: Callable[[], bool], *, within_s: float = 20.0) -> None:
    """Wait until it is true; fail when it does not become true."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not true():
        assert asyncio.get_running_loop().time() < deadline, "did not come about"
        await asyncio.sleep(0.02)


async def fetch(lab: Lab, node: Node, path: str) -> tuple[int, str]:
    """GET from the node's vipd, from inside the node."""
    process = await node.space.spawn(
        [sys.executable, "-c", FETCH, f"http://127.0.0.1:{LISTEN_PORT}{path}"],
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    status, _, body = out.decode().partition("\n")
    return int(status), body


def untouched(lab: Lab) -> bool:
    """No Lease written, no EC2 write, no address added."""
    writes = [call for call in lab.ec2.log if not call.action.startswith("Describe")]
    return not lab.api.lease_writes and not writes and not lab.observer.bearings
