"""The rights in the README, in the examples and in the lab are the same ones."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from rbac import rights, rules

from vipd.lab import operator, topology

README = Path(__file__).parent.parent.parent / "README.md"


def test_the_readme_shows_the_rules_of_the_examples() -> None:
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(rules:.*?)```", README.read_text(), re.DOTALL)]
    assert [block["rules"] for block in shown] == [rules("Role"), rules("ClusterRole")]


def test_the_lab_grants_nothing_else() -> None:
    assert rights("Role") == topology.RIGHTS
    assert rights("ClusterRole") == operator.RIGHTS
