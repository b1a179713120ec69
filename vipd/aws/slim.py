"""Cuts botocore's EC2 model down to the five operations in use: 20 kB instead of 10 MB of parsed JSON.

The whole model costs each process about 16 MB of memory, and half a second at its start.  The small one is shipped in
the package (``MODELS``), where ``vipd.aws.ec2`` has botocore look before its own; AWS_DATA_PATH still comes first.

    python -m vipd.aws.slim

writes it anew, from the botocore that is installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OPERATIONS = frozenset(
    {
        "AssignPrivateIpAddresses",
        "UnassignPrivateIpAddresses",
        "AssignIpv6Addresses",
        "UnassignIpv6Addresses",
        "DescribeNetworkInterfaces",
    }
)


MODELS = Path(__file__).parent / "models"
"""Laid out as botocore's own data: ec2/<version>/service-2.json."""


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
    small: dict[str, Any] = _without_words({**model, "operations": kept, "shapes": shapes})
    return small


def _without_words(node: Any) -> Any:
    """Nobody reads documentation out of a model."""
    if isinstance(node, dict):
        return {key: _without_words(value) for key, value in node.items() if key != "documentation"}
    return [_without_words(each) for each in node] if isinstance(node, list) else node


def shipped() -> dict[str, Any]:
    """The small model that the package ships."""
    (file,) = MODELS.glob("ec2/*/service-2.json")
    model: dict[str, Any] = json.loads(file.read_text())
    return model


def made() -> tuple[str, dict[str, Any]]:
    """The version and the small model of the installed botocore."""
    from botocore.loaders import Loader

    # A loader without AWS_DATA_PATH: the source is always the installed model.
    loader = Loader()
    version = loader.determine_latest_version("ec2", "service-2")
    return version, cut(loader.load_service_model("ec2", "service-2", version))


def write(directory: Path = MODELS) -> Path:
    """Write the small model below ``directory`` where botocore will look for it; returns the file."""
    version, model = made()
    target = directory / "ec2" / version / "service-2.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(model, separators=(",", ":"), sort_keys=True) + "\n")
    return target


if __name__ == "__main__":
    print(write())
