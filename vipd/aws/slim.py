"""Cuts botocore's EC2 model down to the four operations in use: 43 kB instead of 10 MB of parsed JSON.

The whole model costs each process about 16 MB of memory and 0.1 s at start.  botocore looks for models in AWS_DATA_PATH
before its own, so an image built with

    python -m vipd.aws.slim /usr/share/vipd/models        and        ENV AWS_DATA_PATH=/usr/share/vipd/models

has the small one, taken from the very botocore it is built with.  Nothing else changes, and nothing depends on it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OPERATIONS = frozenset(
    {
        "AssignIpv6Addresses",
        "AssignPrivateIpAddresses",
        "DescribeNetworkInterfaces",
        "UnassignIpv6Addresses",
        "UnassignPrivateIpAddresses",
    }
)
"""Every operation of ``vipd.aws.calls``."""


def cut(model: dict[str, Any], operations: frozenset[str] = OPERATIONS) -> dict[str, Any]:
    """A service model with ``operations`` and the shapes that they reach.  Raises KeyError for an unknown one."""
    kept = {name: model["operations"][name] for name in sorted(operations)}
    shapes: dict[str, Any] = {}
    to_do: list[Any] = [kept]
    while to_do:
        node = to_do.pop()
        if isinstance(node, dict):
            name = node.get("shape")
            if isinstance(name, str) and name not in shapes:
                shapes[name] = model["shapes"][name]
                to_do.append(shapes[name])
            to_do.extend(node.values())
        elif isinstance(node, list):
            to_do.extend(node)
    return {**model, "operations": kept, "shapes": shapes}


def write(directory: Path) -> Path:
    """Write the small model below ``directory`` where botocore will look for it; returns the file."""
    from botocore.loaders import Loader

    # A loader without AWS_DATA_PATH: the source is always the installed model.
    loader = Loader()
    version = loader.determine_latest_version("ec2", "service-2")
    model = loader.load_service_model("ec2", "service-2", version)
    target = directory / "ec2" / version / "service-2.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(cut(model), separators=(",", ":")))
    return target


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m vipd.aws.slim DIRECTORY")
    print(write(Path(sys.argv[1])))
