"""How a health check is written: ``--check SPEC`` in, a typed spec out.

What cannot work is refused here, before anything is touched: an unknown scheme, a missing port, a command that is not
there.  Nothing is connected to and nothing is run.  Errors are as in ``vipd.config.values``: ValueError, whose
message completes "'value' ...".
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
import shutil
from dataclasses import dataclass

PORTS = range(1, 65536)

_AUTHORITY = re.compile(r"(?:\[(?P<bracketed>[^\[\]]*)\]|(?P<bare>[^\[\]:]*))(?P<port>:[^:]*)?", re.ASCII)
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,252})?", re.ASCII | re.IGNORECASE)
_NUMBERS_ONLY = re.compile(r"[0-9.]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class HttpSpec:
    """``http://HOST:PORT/PATH`` or ``https://...``: healthy where the answer is 200 to 399."""

    url: str
    """As it was given; what must be percent-encoded is."""
    host: str
    """A name or an IP address, without brackets."""

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class TcpSpec:
    """``tcp://HOST:PORT``: healthy where a connection is accepted."""

    host: str
    """A name or an IP address, without brackets."""
    port: int

    def __str__(self) -> str:
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """``exec:COMMAND ARG...``: healthy where it exits with 0.  Quotes as in a shell, but no shell."""

    text: str
    """As it was given."""
    argv: tuple[str, ...]

    def __str__(self) -> str:
        return self.text


CheckSpec = HttpSpec | TcpSpec | ExecSpec


def check_spec(text: str) -> CheckSpec:
    """One health check as it is written."""
    if not text.isprintable():
        raise ValueError("has characters that cannot be printed")
    if text.startswith("exec:"):
        return ExecSpec(text, _command(text.removeprefix("exec:")))
    scheme, mark, rest = text.partition("://")
    if not mark or scheme not in ("http", "https", "tcp"):
        raise ValueError("has no known scheme")
    if scheme == "tcp":
        return TcpSpec(*_authority(rest))
    return _http(text, rest)


def http_spec(text: str) -> HttpSpec:
    """As ``check_spec``, where nothing but HTTP makes sense."""
    if not text.startswith(("http://", "https://")):
        raise ValueError("is no URL of http or https")
    spec = check_spec(text)
    assert isinstance(spec, HttpSpec)
    return spec


def _http(text: str, rest: str) -> HttpSpec:
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host, _ = _authority(authority)
    target = rest.removeprefix(authority)
    if "#" in target or not target.isascii() or " " in target:
        raise ValueError("has a path with '#', blanks or letters that must be percent-encoded")
    return HttpSpec(text, host)


def _authority(text: str) -> tuple[str, int]:
    """``HOST:PORT``, where an IPv6 address stands in brackets."""
    if "@" in text:
        raise ValueError("has a user name, which is not supported")
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise ValueError("has a host that is not possible (an IPv6 address stands in brackets)")
    if not match["port"]:
        raise ValueError("has no port")
    host = _host(match["bare"]) if match["bracketed"] is None else _ipv6(match["bracketed"])
    number = match["port"][1:]
    if not re.fullmatch(r"[0-9]{1,5}", number, re.ASCII) or int(number) not in PORTS:
        raise ValueError("has a port that is not from 1 to 65535")
    return host, int(number)


def _ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError as error:
        raise ValueError("has no IPv6 address in its brackets") from error
    if address.scope_id is not None:
        raise ValueError("has an address with a zone, which is not supported")
    return str(address)


def _host(text: str) -> str:
    if not _HOST_NAME.fullmatch(text):
        raise ValueError("has no host" if not text else "has a host that is neither a name nor an IP address")
    if _NUMBERS_ONLY.fullmatch(text):
        # The C library would understand "127.1"; people more often mistype 10.0.1.300.
        try:
            ipaddress.IPv4Address(text)
        except ValueError as error:
            raise ValueError("has a host that is neither a name nor an IP address") from error
    return text


def _command(text: str) -> tuple[str, ...]:
    try:
        argv = tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError("has quotes or a backslash without their end") from error
    if not argv or not argv[0]:
        raise ValueError("names no command")
    if shutil.which(argv[0]) is None:
        if "/" not in argv[0]:
            raise ValueError("names a command that is not on PATH")
        there = os.path.isfile(argv[0])
        raise ValueError(f"names a command that {'is not executable' if there else 'does not exist as a file'}")
    return argv
