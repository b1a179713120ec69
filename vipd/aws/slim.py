"""Cuts botocore's EC2 model down to the five operations in use: 18 kB instead of 10 MB of parsed JSON.

The whole model costs each process about 16 MB of memory and 0.3 s at start.  botocore takes models from directories
that it is told of before its own, so the package ships the small one (``models/``, without documentation), and
``vipd.aws.ec2`` names that directory.  Who upgrades botocore writes it anew:

    python -m vipd.aws.slim

An operator's AWS_DATA_PATH goes before it, so another model can be used without another package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MODELS = Path(__file__).with_name("models")
"""What the package ships."""

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
    """A service model with ``operations`` and the shapes that they reach, without documentation.

    Raises KeyError for an unknown operation.
    """
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
    whole = {**model, "operations": kept, "shapes": dict(sorted(shapes.items()))}
    small: dict[str, Any] = _undocumented(whole)
    return small


def _undocumented(node: Any) -> Any:
    if isinstance(node, dict):
        # A member of that name would be a dictionary.
        return {k: _undocumented(v) for k, v in node.items() if k != "documentation" or not isinstance(v, str)}
    return [_undocumented(each) for each in node] if isinstance(node, list) else node


def write(directory: Path = MODELS) -> Path:
    """Write the small model below ``directory`` where botocore will look for it; returns the file."""
    from botocore.loaders import Loader

    # A loader without extra directories: the source is always the installed model.
    loader = Loader(include_default_search_paths=False, extra_search_paths=[Loader.BUILTIN_DATA_PATH])
    version = loader.determine_latest_version("ec2", "service-2")
    model = loader.load_service_model("ec2", "service-2", version)
    target = directory / "ec2" / version / "service-2.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(cut(model), indent=1) + "\n")
    return target


if __name__ == "__main__":
    print(write())
