"""What Multus tells of a pod's networks, in every form that a file of the downward API may have."""

from __future__ import annotations

import json
import os
import re
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vipd.errors import ConfigError
from vipd.link.network_status import (
    ANNOTATION,
    FILE_LIMIT,
    AttachedNetwork,
    parse_network_status,
    read_network_status,
)

# As a node of EKS writes it: of the default network neither the interface nor the MAC are those of eth0.
EKS = """[{
    "name": "aws-cni",
    "interface": "dummydb68da92e6e",
    "ips": [
        "10.0.19.107"
    ],
    "mac": "0",
    "default": true,
    "dns": {}
},{
    "name": "default/ipvlan-conf-1",
    "interface": "net1",
    "ips": [
        "10.0.1.100",
        "fd00:10:0:1::100"
    ],
    "mac": "02:00:00:00:01:0A",
    "mtu": 9001,
    "dns": {},
    "gateway": [
        "\\u003cnil\\u003e"
    ]
}]"""
NETWORKS = (
    AttachedNetwork("aws-cni", "dummydb68da92e6e", (ip_address("10.0.19.107"),), "", default=True),
    AttachedNetwork(
        "default/ipvlan-conf-1",
        "net1",
        (ip_address("10.0.1.100"), ip_address("fd00:10:0:1::100")),
        "02:00:00:00:01:0a",
        default=False,
    ),
)

fuzz = settings(max_examples=200, derandomize=True, database=None, deadline=None)


def go_quoted(text: str) -> str:
    """As strconv.Quote of Go writes it, which is not as JSON does."""
    simple = {c: f"\\{e}" for c, e in zip('\a\b\f\n\r\t\v\\"', 'abfnrtv\\"', strict=True)}

    def one(c: str) -> str:
        if c in simple or (c.isprintable() and not c.isspace()) or c == " ":
            return simple.get(c, c)
        if ord(c) < 0x20 or c == "\x7f":
            return f"\\x{ord(c):02x}"
        return f"\\u{ord(c):04x}" if ord(c) <= 0xFFFF else f"\\U{ord(c):08x}"

    return '"' + "".join(map(one, text)) + '"'


def annotations(**values: str) -> bytes:
    named = {f"example.com/{key}": value for key, value in values.items() if key != "status"}
    if "status" in values:
        named[ANNOTATION] = values["status"]
    return "".join(f"{key}={go_quoted(value)}\n" for key, value in sorted(named.items())).encode()


def written(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "network-status"
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(
    "data",
    [
        EKS.encode(),
        f"\n  {EKS}\n".encode(),
        annotations(status=EKS),
        annotations(status=EKS)[:-1],
        annotations(a='half [{"name": 1}', status=EKS, z='\x00\x7f\u2028\U000e0001 \\"\'\n=\ta="b"'),
    ],
    ids=["the annotation", "with space around", "all annotations", "without a last line end", "beside strange ones"],
)
def test_both_forms_of_the_file_tell_the_networks(tmp_path: Path, data: bytes) -> None:
    assert read_network_status(written(tmp_path, data)) == NETWORKS


@pytest.mark.parametrize("data", [b"", b" \n", annotations(a="b"), annotations(status=""), annotations(status=" ")])
def test_a_file_without_the_annotation_is_not_yet_there(tmp_path: Path, data: bytes) -> None:
    assert read_network_status(written(tmp_path, data)) is None


def test_an_empty_list_is_there_and_tells_of_no_network() -> None:
    assert parse_network_status(b"[]") == ()


def test_what_multus_leaves_out_or_null_is_empty() -> None:
    nothing = AttachedNetwork("", "", (), "", default=False)
    left_out = b'[{}, {"name": null, "interface": null, "ips": null, "mac": null, "default": null}]'
    assert parse_network_status(left_out) == (nothing, nothing)


def test_a_prefix_length_after_an_address_is_left_out() -> None:
    told = parse_network_status(b'[{"ips": ["10.0.1.100/24", "fd00::1/64"]}]')
    assert told is not None
    assert told[0].ips == (ip_address("10.0.1.100"), ip_address("fd00::1"))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (EKS[:-1].encode(), "no JSON at line 23 column 2 of the list"),
        (EKS[:60].encode(), "no JSON at line 3 column"),
        (annotations(status=EKS)[:-2], 'line 1 is not key="value"'),
        (annotations(status=EKS) + b"example.com/z", "line 2 is not key"),
        (annotations(status=EKS[:40]), "no JSON at line 3 column"),
        (annotations(status="{}"), "not a list: {}"),
        (annotations(status="null"), "not a list: None"),
        (b'{"name": "net1"}', "line 1 is not key"),
        (b"null", "line 1 is not key"),
        (b"\x7fELF\x02", "line 1 is not key"),
        (b"[\xff]", "byte 2 is not UTF-8"),
        (ANNOTATION.encode() + rb'="\q"', r"line 1 has the escape '\\q'"),
        (ANNOTATION.encode() + rb'="\xff"', r"line 1 has the escape '\\xff'"),
        (ANNOTATION.encode() + rb'="\U00110000"', "line 1 has the escape"),
        (ANNOTATION.encode() + rb'="\ud800"', "line 1 has the escape"),
        (b"[" * 100_000, "no JSON that Multus would write"),
        (b"[" + b"9" * 5000 + b"]", "no JSON that Multus would write"),
        (b"[1]", "network 1 is 1"),
        (b'[{}, "net1"]', "network 2 is 'net1'"),
        (b'[{"name": 1}]', "network 1 has the name 1"),
        (rb'[{"name": "\ud800"}]', r"network 1 has the name '\ud800'"),
        (rb'[{"name": "a\nb"}]', r"network 1 has the name 'a\nb'"),
        (b'[{"interface": ["net1"]}]', "network 1 has the interface ['net1']"),
        (b'[{"interface": "net 1"}]', "network 1 has the interface 'net 1'"),
        (b'[{"interface": "../net1"}]', "network 1 has the interface '../net1'"),
        (b'[{"interface": "' + b"n" * 64 + b'"}]', "network 1 has the interface 'nnn"),
        (b'[{"mac": "zz:00"}]', "network 1 has the mac 'zz:00'"),
        (b'[{"mac": 0}]', "network 1 has the mac 0"),
        (b'[{"default": "yes"}]', "network 1 has the default 'yes'"),
        (b'[{"ips": "10.0.0.1"}]', "network 1 has the ips '10.0.0.1'"),
        (b'[{"ips": [167772161]}]', "network 1 has the ip 167772161"),
        (b'[{"ips": [["10.0.0.1", 24]]}]', "network 1 has the ip ['10.0.0.1', 24]"),
        (b'[{"ips": ["10.0.0.1", "10.0.0.256"]}]', "network 1 has the ip '10.0.0.256'"),
        (b'[{"ips": ["fe80::1%eth0"]}]', "network 1 has the ip 'fe80::1%eth0'"),
        (b'[{"ips": ["0.0.0.0"]}]', "network 1 has the ip '0.0.0.0'"),
        (b'[{"ips": ["ff02::1"]}]', "network 1 has the ip 'ff02::1'"),
        (b'[{"ips": [""]}]', "network 1 has the ip ''"),
        ("[".encode("utf-16"), "byte 1 is not UTF-8"),
        (b"[" + b" " * FILE_LIMIT, "too large; allowed: at most 1048576 bytes"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_anything_else_is_one_line_that_names_the_file_and_the_place(tmp_path: Path, data: bytes, problem: str) -> None:
    path = written(tmp_path, data)
    with pytest.raises(ConfigError) as failure:
        read_network_status(path)
    told = str(failure.value)
    assert told.startswith(f"file {path}: {problem}")
    assert "; allowed: " in told
    assert told.isprintable()
    assert len(told) < 400 + len(path)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, why in (
        (str(pipe), "no regular file"),
        (str(tmp_path), "directory"),
        ("/dev/zero", "no regular file"),
        (str(tmp_path / "no\nwhere"), "No such file"),
        ("a\0b", "null"),
    ):
        with pytest.raises(ConfigError, match=why) as failure:
            read_network_status(path)
        assert str(failure.value).isprintable()


@pytest.mark.parametrize("end", [b'"\n', b"", b"\\"], ids=["whole", "cut off", "cut off in an escape"])
def test_the_largest_file_is_read_in_no_time(tmp_path: Path, end: bytes) -> None:
    escapes = b"\\n" * ((FILE_LIMIT - 100) // 2)
    path = written(tmp_path, ANNOTATION.encode() + b'="' + escapes + end)
    before = time.process_time()
    if end == b'"\n':
        assert read_network_status(path) is None
    else:
        with pytest.raises(ConfigError, match="line 1 is not key"):
            read_network_status(path)
    assert time.process_time() - before < 3


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
entries = st.fixed_dictionaries(
    {},
    optional={
        "name": st.from_regex(r"[a-z0-9/-]{0,60}", fullmatch=True),
        "interface": st.from_regex(r"[a-z][a-z0-9]{0,14}", fullmatch=True),
        "ips": st.lists(st.ip_addresses().filter(lambda a: not (a.is_unspecified or a.is_multicast)).map(str)),
        "default": st.booleans(),
        "dns": st.dictionaries(words, words),
        "gateway": st.lists(words),
    },
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=8,
)


@fuzz
@given(st.lists(entries, max_size=4), words, st.booleans(), st.sampled_from([None, 4]))
def test_what_multus_writes_is_read_in_both_forms(
    told: list[dict[str, Any]], other: str, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(told, ensure_ascii=ascii_only, indent=indent)
    networks = parse_network_status(text.encode())
    assert networks is not None
    assert networks == parse_network_status(annotations(a=other, status=text, z=other))
    assert [(n.name, n.interface, [str(ip) for ip in n.ips], n.default) for n in networks] == [
        (e.get("name", ""), e.get("interface", ""), e.get("ips", []), e.get("default", False)) for e in told
    ]


def _told(data: bytes) -> tuple[AttachedNetwork, ...] | ValueError | None:
    try:
        return parse_network_status(data)
    except ValueError as error:
        return error


def _is_right(data: bytes) -> None:
    """Networks, nothing yet, or one readable line: never another exception."""
    told = _told(data)
    if isinstance(told, ValueError):
        assert "; allowed: " in str(told)
        assert str(told).isprintable()
        return
    for network in told or ():
        assert network.name.isprintable()
        assert re.fullmatch(r"[^\s/]*", network.interface)


@fuzz
@given(st.binary(max_size=200) | words.map(str.encode))
def test_any_bytes_are_networks_or_one_line(data: bytes) -> None:
    _is_right(data)
    _is_right(b"[" + data)
    _is_right(ANNOTATION.encode() + b'="' + data + b'"')


@fuzz
@given(st.lists(st.dictionaries(st.sampled_from(["name", "interface", "ips", "mac", "default"]), anything), max_size=3))
def test_any_types_in_any_place_are_networks_or_one_line(told: list[dict[str, Any]]) -> None:
    _is_right(json.dumps(told).encode())
    _is_right(annotations(status=json.dumps(told)))


@fuzz
@given(st.data())
def test_a_file_cut_off_anywhere_tells_nothing_wrong(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([EKS.encode(), annotations(a="b", status=EKS, z="c")]))
    part = whole[: data.draw(st.integers(0, len(whole)))]
    told = _told(part)
    assert told in (None, NETWORKS) or (isinstance(told, ValueError) and "; allowed: " in str(told))
