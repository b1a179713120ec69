"""The policies in examples/iam: each mode is allowed what the code calls in that mode, and nothing else.

What the code calls is read off the code: the methods of ``Calls`` and the EC2 operations in them, and who uses them.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name

import vipd
from vipd.aws.slim import OPERATIONS
from vipd.config.table import RELEASE, SIDECAR_OPTIONS
from vipd.config.table_init import INIT_OPTIONS

SOURCES = Path(vipd.__file__).parent
POLICIES = SOURCES.parent / "examples" / "iam"
RELEASING = "sidecar-follow-release.json"
OTHERS = ("init.json", "sidecar-follow.json", "sidecar-active-standby.json", "host.json")
UNTAGGED = "host.json"
"""Mostly for the nodes' primary ENIs, which nobody tags."""

ON_ENIS = frozenset(
    {
        "aws:ResourceTag",
        "ec2:ResourceTag",
        "ec2:Subnet",
        "ec2:Vpc",
        "ec2:AvailabilityZone",
        "ec2:NetworkInterfaceID",
        "ec2:ManagedResourceOperator",
        "ec2:Region",
    }
)
NO_RESOURCE = frozenset({"ec2:Region"})
REFERENCE = {
    "AssignPrivateIpAddresses": ON_ENIS,
    "UnassignPrivateIpAddresses": ON_ENIS,
    "AssignIpv6Addresses": ON_ENIS,
    "UnassignIpv6Addresses": ON_ENIS,
    "DescribeNetworkInterfaces": NO_RESOURCE,
}
"""Condition keys by action, from the AWS Service Authorization Reference, "Actions, resources, and condition keys for
Amazon EC2".  Those with ON_ENIS take the ARN of a network interface as resource, the other none."""

every_policy = pytest.mark.parametrize("name", [*OTHERS, RELEASING])


def test_there_are_these_policies_and_no_others() -> None:
    assert {file.name for file in POLICIES.glob("*.json")} == {*OTHERS, RELEASING}


@pytest.mark.parametrize("name", OTHERS)
def test_without_release_the_policy_allows_what_is_called_outside_of_release(name: str) -> None:
    assert actions(name) == operations(used(releasing=False))


def test_with_release_the_policy_allows_everything_that_is_called() -> None:
    assert actions(RELEASING) == operations(used(releasing=False) | used(releasing=True))


def test_every_call_is_used_and_every_operation_is_one_of_the_small_model() -> None:
    assert used(releasing=False) | used(releasing=True) == set(calls())
    assert operations(set(calls())) == OPERATIONS


def test_ec2_is_called_nowhere_else() -> None:
    found = {
        file.relative_to(SOURCES).as_posix()
        for file, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {xform_name(operation) for operation in OPERATIONS}
    }
    assert found == {"aws/calls.py"}


def test_only_the_sidecar_releases() -> None:
    assert RELEASE in SIDECAR_OPTIONS
    assert RELEASE not in INIT_OPTIONS


@every_policy
def test_a_policy_is_in_iams_grammar(name: str) -> None:
    document = policy(name)
    assert set(document) == {"Version", "Statement"}
    assert document["Version"] == "2012-10-17"
    sids = [statement["Sid"] for statement in document["Statement"]]
    assert len(set(sids)) == len(sids) > 0
    for statement in document["Statement"]:
        assert set(statement) == {"Sid", "Effect", "Action", "Resource", "Condition"}
        assert re.fullmatch(r"[A-Za-z0-9]+", statement["Sid"])
        assert statement["Effect"] == "Allow"
        assert isinstance(statement["Action"], list)
        assert all(re.fullmatch(r"ec2:[A-Z][A-Za-z0-9]+", action) for action in statement["Action"])
        for operator, conditions in statement["Condition"].items():
            # The reference gives the types: ec2:Subnet and ec2:Vpc are ARNs, the other keys strings.
            arns = {"ec2:Subnet", "ec2:Vpc"}
            assert operator in ("StringEquals", "ArnEquals")
            assert all((key in arns) is (operator == "ArnEquals") for key in conditions)
            assert all(value and isinstance(value, str) and "*" not in value for value in conditions.values())


@every_policy
def test_each_action_is_held_to_what_ec2_can_hold_it_to(name: str) -> None:
    for statement in policy(name)["Statement"]:
        for action in statement["Action"]:
            known = REFERENCE[action.removeprefix("ec2:")]
            assert keys(statement) <= known
            if known is NO_RESOURCE:
                assert (statement["Resource"], keys(statement)) == ("*", NO_RESOURCE)
            else:
                assert re.fullmatch(r"arn:aws:ec2:[a-z]+-[a-z]+-\d:\d{12}:network-interface/\*", statement["Resource"])
                wanted = {"ec2:Subnet"} if name == UNTAGGED else {"ec2:Subnet", "aws:ResourceTag"}
                assert wanted <= keys(statement)


@every_policy
def test_no_action_is_allowed_twice(name: str) -> None:
    listed = [action for statement in policy(name)["Statement"] for action in statement["Action"]]
    assert len(listed) == len(set(listed))


def test_the_readme_explains_every_file_statement_and_action() -> None:
    text = (POLICIES / "README.md").read_text()
    for name in (*OTHERS, RELEASING):
        assert f"`{name}`" in text
        for statement in policy(name)["Statement"]:
            assert f"`{statement['Sid']}`" in text
            assert all(f"`{action}`" in text for action in statement["Action"])
    for key in ON_ENIS:
        assert f"`{key}" in text


def policy(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((POLICIES / name).read_text())
    return found


def actions(name: str) -> set[str]:
    """What the policy allows, without the service's prefix."""
    listed = [action for statement in policy(name)["Statement"] for action in statement["Action"]]
    return {action.removeprefix("ec2:") for action in listed}


def keys(statement: dict[str, Any]) -> set[str]:
    """The condition keys, without the names of tags."""
    return {key.partition("/")[0] for conditions in statement["Condition"].values() for key in conditions}


@cache
def sources() -> tuple[tuple[Path, ast.Module], ...]:
    """Every module of vipd but the lab, which is no client of AWS."""
    files = [file for file in SOURCES.rglob("*.py") if "lab" not in file.relative_to(SOURCES).parts]
    return tuple((file, ast.parse(file.read_text())) for file in files)


def calls() -> dict[str, set[str]]:
    """The methods of ``Calls`` that call EC2, each with its operations."""
    known = {xform_name(operation): operation for operation in OPERATIONS}
    found = {}
    for method in functions(module("aws/calls.py")):
        # Whatever is called on a client, known or not: an operation that is not in OPERATIONS is a KeyError.
        named = {known[name] for name in called_on_a_client(method)}
        if named:
            found[method.name] = named
    return found


def operations(methods: set[str]) -> set[str]:
    return {operation for method in methods for operation in calls()[method]}


def used(*, releasing: bool) -> set[str]:
    """The methods of ``Calls`` that ``vipd.aws.release`` uses, or those that anything else uses."""
    return {
        node.attr
        for file, tree in sources()
        if file.parent.name == "aws" and file.name != "calls.py" and (file.name == "release.py") is releasing
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and is_calls(node.value) and node.attr in calls()
    }


def is_calls(node: ast.expr) -> bool:
    """Whether it is an instance of ``Calls``, which all modules name so: ``calls`` or ``self._calls``."""
    return (isinstance(node, ast.Name) and node.id == "calls") or (
        isinstance(node, ast.Attribute) and node.attr == "_calls"
    )


def module(name: str) -> ast.Module:
    (found,) = [tree for file, tree in sources() if file == SOURCES / name]
    return found


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Methods and functions, without those inside of others."""
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    for body in bodies:
        yield from (node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def called_on_a_client(method: ast.AST) -> set[str]:
    """``X`` of every ``....client().X``."""
    return {
        node.attr
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr == "client"
    }
