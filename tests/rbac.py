"""The rights that the examples grant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

EXAMPLE = Path(__file__).parent.parent / "examples" / "rbac.yaml"


def rules(kind: str) -> list[dict[str, Any]]:
    """The rules of the example's Role (a member's) or ClusterRole (an operator's)."""
    (found,) = [each for each in yaml.safe_load_all(EXAMPLE.read_text()) if each["kind"] == kind]
    listed: list[dict[str, Any]] = found["rules"]
    return listed


def rights(kind: str) -> set[tuple[str, str]]:
    """The same as pairs of verb and resource."""
    return {(verb, what) for rule in rules(kind) for what in rule["resources"] for verb in rule["verbs"]}
