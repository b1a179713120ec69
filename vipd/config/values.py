"""How each kind of value is written: text in, typed value out.

Every function raises ValueError for what it does not understand, and nothing else.  The message, when there is one,
completes "'value' ..." and says more than that the form is wrong.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from vipd.core.model import Address, Network

E = TypeVar("E", bound=enum.StrEnum)

TextParser = Callable[[str], str]

IFNAMSIZ = 15
"""The kernel's limit for an interface name, without the final NUL (include/uapi/linux/if.h)."""

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_ENI_ID = re.compile(r"eni-([0-9a-f]{8}|[0-9a-f]{17})", re.ASCII)
_REGION = re.compile(r"[a-z]{2,8}(-[a-z]{2,12})+-[0-9]{1,2}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)

_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
_RESERVED = ipaddress.IPv4Network("240.0.0.0/4")
"""RFC 6890: the first is a source address at most, the second is nobody's."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the HTTP endpoint listens.  Port 0: any free one."""

    host: str
    """An IP address, without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class VipText:
    """A VIP as it was written: what is None has a default."""

    address: Address
    prefixlen: int
    interface: str | None


@dataclass(frozen=True, slots=True)
class EniText:
    """``auto``, ``none``, or an ENI id with the interface it stands behind (None: the default one)."""

    id: str
    interface: str | None = None


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """A parser of whole numbers within ``least..most``."""

    least: int
    most: int

    def __call__(self, text: str) -> int:
        if not _NUMBER.fullmatch(text):
            raise ValueError
        return self.check(int(text))

    def check(self, number: int) -> int:
        if not self.least <= number <= self.most:
            raise ValueError("is out of range")
        return number


@dataclass(frozen=True, slots=True)
class Duration:
    """A parser of durations in seconds within ``least_s..most_s``."""

    least_s: float
    most_s: float

    def __call__(self, text: str) -> float:
        match = _DURATION.fullmatch(text)
        if match is None:
            raise ValueError
        seconds = round(float(match[1]) * _UNITS_S[match[2] or "s"], 6)
        if not self.least_s <= seconds <= self.most_s:
            raise ValueError("is out of range")
        return seconds


@dataclass(frozen=True, slots=True)
class WholeSeconds:
    """As Duration, for what the wire format knows in whole seconds only (``leaseDurationSeconds``)."""

    least_s: int
    most_s: int

    def __call__(self, text: str) -> int:
        seconds = Duration(0, self.most_s)(text)
        if seconds != int(seconds):
            raise ValueError("is not in whole seconds")
        return WholeNumber(self.least_s, self.most_s).check(int(seconds))


@dataclass(frozen=True)
class OneOf(Generic[E]):
    """A parser of the members of an enum."""

    words: type[E]

    def __call__(self, text: str) -> E:
        if text not in [str(word) for word in self.words]:
            raise ValueError
        return self.words(text)


def boolean(text: str) -> bool:
    """``true`` or ``false``."""
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def vip(text: str) -> VipText:
    """``ADDR[/PREFIX][%IF]``; refuses addresses that no ENI can have."""
    rest, percent, name = text.partition("%")
    bare, slash, prefix = rest.partition("/")
    address = ipaddress.ip_address(bare) if _is_address(bare) else None
    if address is None:
        raise ValueError("is not an IP address")
    kind = _useless(address)
    if kind:
        raise ValueError(f"is {kind} address, which no ENI can have")
    prefixlen: int = address.max_prefixlen
    if slash:
        if not _NUMBER.fullmatch(prefix) or not 1 <= int(prefix) <= address.max_prefixlen:
            raise ValueError(f"has a prefix that does not fit: IPv{address.version} takes 1 to {address.max_prefixlen}")
        prefixlen = int(prefix)
    return VipText(address, prefixlen, interface(name) if percent else None)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _useless(address: Address) -> str:
    for kind, yes in (
        ("an unspecified", address.is_unspecified),
        ("a loopback", address.is_loopback),
        ("a multicast", address.is_multicast),
        ("a link-local", address.is_link_local),
        ("a broadcast", address == ipaddress.IPv4Address("255.255.255.255")),
        ("a this-network (0.0.0.0/8)", address in _THIS_NETWORK),
        ("a reserved (240.0.0.0/4)", address in _RESERVED),
        ("an IPv4-mapped", isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None),
    ):
        if yes:
            return kind
    return ""


def interface(text: str) -> str:
    """An interface name that the kernel can have (dev_valid_name in net/core/dev.c)."""
    if len(text) > IFNAMSIZ:
        raise ValueError(f"has an interface name of more than {IFNAMSIZ} characters, the kernel's limit")
    if not text or text in (".", "..") or not text.isascii() or not text.isprintable() or set(text) & set("/:% "):
        raise ValueError("has an interface name that the kernel cannot have")
    return text


def label(text: str) -> str:
    """An RFC 1123 label, such as a namespace."""
    if not _LABEL.fullmatch(text):
        raise ValueError("is no RFC 1123 label")
    return text


def subdomain(text: str) -> str:
    """An RFC 1123 subdomain, such as the name of a Lease."""
    if len(text) > 253 or not all(_LABEL.fullmatch(part) for part in text.split(".")):
        raise ValueError("is no RFC 1123 name")
    return text


def identity(text: str) -> str:
    """A holder identity: visible ASCII, so that it can stand in logs, annotations and a socket's name."""
    if not 1 <= len(text) <= 300 or not all("!" <= c <= "~" for c in text):
        raise ValueError
    return text


def eni(text: str) -> EniText:
    """``auto``, ``none`` or ``eni-...[%IF]``."""
    if text in ("auto", "none"):
        return EniText(text)
    id_, percent, name = text.partition("%")
    if not _ENI_ID.fullmatch(id_):
        raise ValueError("is no ENI id")
    return EniText(id_, interface(name) if percent else None)


def region(text: str) -> str:
    """An AWS Region."""
    if not _REGION.fullmatch(text):
        raise ValueError("is no Region")
    return text


def cidr(text: str) -> Network:
    """A subnet's CIDR block; host bits are cut off, as EC2 does."""
    if "/" not in text or "%" in text:
        raise ValueError
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError("is no CIDR block") from error


def listen(text: str) -> Listen | None:
    """``ADDR:PORT``, ``[IPV6]:PORT`` or ``off`` (None)."""
    if text == "off":
        return None
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not colon or not _is_address(bare) or "%" in bare or (":" in bare) != bracketed:
        raise ValueError
    return Listen(bare, WholeNumber(1, 65535)(port))


def path(text: str) -> str:
    """A path, which is looked at later."""
    if "\0" in text:
        raise ValueError
    return text
