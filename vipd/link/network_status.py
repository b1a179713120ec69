"""What Multus says of a pod's networks: the annotation k8s.v1.cni.cncf.io/network-status, read from a file.

The downward API can mount it in two ways, and both are understood: the annotation alone (its value, a JSON list), or
all annotations in one file (lines ``key="value"``, the value quoted as Go's %q does).  The kubelet mounts the file
before the networks exist and brings it up to date later, so that a file without the annotation means "not yet".
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from vipd.core.model import Address
from vipd.errors import ConfigError

ANNOTATION = "k8s.v1.cni.cncf.io/network-status"

FILE_LIMIT = 1 << 20
"""Bytes.  Kubernetes lets all annotations of an object have 256 KiB; quoting makes no more than four of each."""

_SHOWN = 80
_ALLOWED = f"the JSON list of the annotation {ANNOTATION}, or a downward API file of all annotations"

_AN_ADDRESS = "the IPv4 or IPv6 address of an interface"

_LINE = re.compile(r'([^\s"=]+)="((?:[^"\\]++|\\.)*+)"')
_ESCAPE = re.compile(r"""\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([abfnrtv\\"])|.)""", re.DOTALL)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}

_INTERFACE = re.compile(r"[!-.0-~]{1,63}")
"""More than the kernel's 15 bytes: beside the Amazon VPC CNI, Multus names eth0 by a string of 16, "dummydb68da92e6e",
which that CNI keeps for itself under the name of an interface."""
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2})+")
_VLAN = re.compile(r"[0-9]{1,5}")
"""What the Amazon VPC CNI keeps in the place of that one's MAC."""


@dataclass(frozen=True, slots=True)
class AttachedNetwork:
    """One entry of the list."""

    name: str
    """Of the network: ``namespace/name`` of its NetworkAttachmentDefinition, or the name in the CNI configuration."""
    interface: str
    """As Multus tells it, or empty.  Of the default network it may be a name that no interface has (see _INTERFACE)."""
    ips: tuple[Address, ...]
    mac: str
    """Lower case, colon separated; empty where Multus does not tell."""
    default: bool
    """The cluster's own network, that of the primary interface."""


class _Wrong(ValueError):
    """What is wrong, with the place, and what is allowed there."""

    def __init__(self, problem: str, allowed: str = _ALLOWED) -> None:
        super().__init__(f"{problem}; allowed: {allowed}")


def read_network_status(path: str) -> tuple[AttachedNetwork, ...] | None:
    """The pod's networks; None where the file is empty or has no such annotation: Multus has not told yet.

    Raises ConfigError for a file that cannot be read or that holds anything else.
    """
    shown = path if path.isprintable() else _quoted(path)
    try:
        data = _read(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"file {shown}: cannot be read: {why}; allowed: a readable file with {_ALLOWED}") from error
    try:
        if len(data) > FILE_LIMIT:
            raise _Wrong("too large", f"at most {FILE_LIMIT} bytes")
        return parse_network_status(data)
    except _Wrong as error:
        raise ConfigError(f"file {shown}: {error}") from error


def parse_network_status(data: bytes) -> tuple[AttachedNetwork, ...] | None:
    """As ``read_network_status``, of what a file holds.  Raises ValueError that names the place."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _Wrong(f"byte {error.start + 1} is not UTF-8") from error
    if not text.strip().startswith("["):
        found = _among_annotations(text)
        if found is None:
            return None
        text = found
    return _networks(text) if text.strip() else None


def _read(path: str) -> bytes:
    """At most one byte more than FILE_LIMIT.  Raises OSError, and ValueError for what is no regular file.

    Opening a pipe that nobody writes to would wait for ever.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        return file.read(FILE_LIMIT + 1)


def _among_annotations(text: str) -> str | None:
    """The annotation's value; None where it is not among them.  All lines are looked at: one may be half written."""
    found = None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.rstrip("\r"))
        if match is None:
            raise _Wrong(f'line {number} is not key="value": {_quoted(line)}')
        if match[1] == ANNOTATION:
            found = _unquoted(match[2], number)
    return found


def _unquoted(value: str, line: int) -> str:
    def plain(match: re.Match[str]) -> str:
        two, four, eight, simple = match.groups()
        if simple:
            return _SIMPLE[simple]
        code = int(two or four or eight or "ffffffff", 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF or (two and code >= 0x80):
            # \x80 and above stand for bytes that are not UTF-8, which no annotation has.
            raise _Wrong(f"line {line} has the escape {_quoted(match[0])}", "escapes of Go's %q for characters")
        return chr(code)

    return _ESCAPE.sub(plain, value)


def _networks(text: str) -> tuple[AttachedNetwork, ...]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise _Wrong(f"no JSON at line {error.lineno} column {error.colno} of the list ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        # A number of 5000 digits, or lists nested a thousand deep.
        raise _Wrong("no JSON that Multus would write") from error
    if not isinstance(document, list):
        raise _Wrong(f"not a list: {_quoted(document)}")
    return tuple(_network(entry, f"network {number}") for number, entry in enumerate(document, start=1))


def _network(entry: object, place: str) -> AttachedNetwork:
    if not isinstance(entry, dict):
        raise _Wrong(f"{place} is {_quoted(entry)}", "a JSON object with name, interface, ips, mac and default")
    # Go writes null for a list that was never made, and leaves out what is empty.
    entry = {key: value for key, value in entry.items() if value is not None}
    name, interface, mac = entry.get("name", ""), entry.get("interface", ""), entry.get("mac", "")
    ips, default = entry.get("ips", []), entry.get("default", False)
    if not (isinstance(name, str) and name.isprintable()):
        raise _Wrong(f"{place} has the name {_quoted(name)}", "printable text")
    if not (isinstance(interface, str) and (interface == "" or _INTERFACE.fullmatch(interface))):
        raise _Wrong(
            f"{place} has the interface {_quoted(interface)}", "a name of at most 63 characters, without space or /"
        )
    if not (isinstance(mac, str) and (mac == "" or _MAC.fullmatch(mac.lower()) or _VLAN.fullmatch(mac))):
        raise _Wrong(f"{place} has the mac {_quoted(mac)}", "a hardware address, as 02:00:00:00:00:01")
    if not isinstance(ips, list):
        raise _Wrong(f"{place} has the ips {_quoted(ips)}", "a list of addresses")
    if not isinstance(default, bool):
        raise _Wrong(f"{place} has the default {_quoted(default)}", "true or false")
    mac = "" if _VLAN.fullmatch(mac) else mac.lower()
    return AttachedNetwork(name, interface, tuple(_address(ip, place) for ip in ips), mac, default)


def _address(value: object, place: str) -> Address:
    """An IPv4 or IPv6 address; a prefix length after it is left out."""
    try:
        # Anything but text would be taken for a number or a pair; a scope id is no part of an address.
        if isinstance(value, str) and value.isascii() and "%" not in value:
            address = ip_interface(value).ip
            if not (address.is_unspecified or address.is_multicast):
                return address
    except ValueError as error:
        raise _Wrong(f"{place} has the ip {_quoted(value)}", _AN_ADDRESS) from error
    raise _Wrong(f"{place} has the ip {_quoted(value)}", _AN_ADDRESS)


def _quoted(value: Any) -> str:
    """As one readable line, however long or strange it is."""
    try:
        text = repr(value)
    except RecursionError:
        text = "something deeply nested"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
