"""Just enough HTTP/1.1 to ask IMDS: one request on a connection of its own, no redirects, no proxies, no cookies.

``vipd init`` lives for a second, of which the import of an HTTP library would take a quarter.  IMDS is link-local: a
new connection costs it less than a millisecond, and none that was kept can turn out to be dead.

Whoever answers may be anybody, so nothing is believed that is not well formed (RFC 9112), and nothing is read
without a limit.  There is no time limit here beyond that of connecting; the caller sets it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

_STATUS = re.compile(r"HTTP/1\.[01] ([0-9]{3})( .*)?")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_LENGTH = re.compile(r"[0-9]{1,15}")
_CHUNK = re.compile(r"([0-9A-Fa-f]{1,15})[ \t]*(;.*)?")
_WITHOUT_BODY = (204, 304)


class BadAnswer(Exception):
    """What came is no answer, or none that can be taken; the text says why."""


async def ask(
    method: str, url: str, headers: Mapping[str, str], *, connect_s: float, max_bytes: int
) -> tuple[int, bytes]:
    """Status and body.  ``headers`` are sent as they are: visible ASCII.  Raises BadAnswer and OSError."""
    request, host, port, tls = _request(method, url, headers)
    try:
        async with asyncio.timeout(connect_s):
            reader, writer = await asyncio.open_connection(host, port, ssl=tls or None)
    except TimeoutError:
        raise BadAnswer(f"no connection within {connect_s:g} s") from None
    except UnicodeError:
        raise BadAnswer(f"{host!r} is no host name") from None
    try:
        writer.write(request)
        return await _answer(reader, max_bytes)
    except asyncio.IncompleteReadError:
        raise BadAnswer("the answer broke off") from None
    except asyncio.LimitOverrunError:
        raise BadAnswer("a line or a head without end") from None
    finally:
        # Nothing more is expected; close() would wait for a peer that does not read.
        writer.transport.abort()


def _request(method: str, url: str, headers: Mapping[str, str]) -> tuple[bytes, str, int, bool]:
    """The bytes to send, and where: host, port, whether by TLS.  Raises BadAnswer where the URL leads nowhere."""
    try:
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        # Without a host asyncio would connect to this machine.
        if not parts.hostname or not (tls or parts.scheme == "http"):
            raise ValueError("not http://<host>")
        lines = [
            f"{method} {quote(parts.path, safe='/:')} HTTP/1.1",
            f"Host: {parts.netloc.rpartition('@')[2]}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in headers.items()),
            *(["Content-Length: 0"] if method == "PUT" else []),
        ]
        return "\r\n".join((*lines, "", "")).encode("ascii"), parts.hostname, parts.port or (443 if tls else 80), tls
    except ValueError as error:
        raise BadAnswer(f"{url[:80]!r} is no URL to ask: {error}") from None


async def _answer(reader: asyncio.StreamReader, max_bytes: int) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *rest = head.removesuffix("\r\n\r\n").split("\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise BadAnswer(f"no HTTP answer: {first[:40]!r}")
    fields: dict[str, list[str]] = {}
    for line in rest:
        field = _HEADER.fullmatch(line)
        if field is None:
            raise BadAnswer(f"no header field: {line[:40]!r}")
        fields.setdefault(field[1].lower(), []).append(field[2])
    code = int(status[1])
    return code, b"" if code in _WITHOUT_BODY else await _body(reader, fields, max_bytes)


async def _body(reader: asyncio.StreamReader, fields: Mapping[str, list[str]], max_bytes: int) -> bytes:
    """The body, as RFC 9112, section 6.3 finds its end."""
    if any(coding.lower() != "identity" for coding in fields.get("content-encoding", [])):
        raise BadAnswer("an encoded body, which was not asked for")
    if "transfer-encoding" in fields:
        if [coding.lower() for coding in fields["transfer-encoding"]] != ["chunked"]:
            raise BadAnswer("an unknown transfer coding")
        return await _chunks(reader, max_bytes)
    lengths = set(fields.get("content-length", []))
    if not lengths:
        body = b""
        while more := await reader.read(max_bytes + 1 - len(body)):
            body += more
            _check(len(body), max_bytes)
        return body
    length = lengths.pop()
    if lengths or not _LENGTH.fullmatch(length):
        raise BadAnswer("an unclear length")
    _check(int(length), max_bytes)
    return await reader.readexactly(int(length))


async def _chunks(reader: asyncio.StreamReader, max_bytes: int) -> bytes:
    body = b""
    while True:
        size = _CHUNK.fullmatch((await reader.readuntil(b"\r\n")).decode("latin-1").removesuffix("\r\n"))
        if size is None:
            raise BadAnswer("a chunk of unclear length")
        length = int(size[1], 16)
        if length == 0:
            # Trailer fields may follow; nobody needs them, and the connection ends.
            return body
        _check(len(body) + length, max_bytes)
        chunk = await reader.readexactly(length + 2)
        if not chunk.endswith(b"\r\n"):
            raise BadAnswer("a chunk of another length than it says")
        body += chunk[:-2]


def _check(length: int, max_bytes: int) -> None:
    if length > max_bytes:
        raise BadAnswer(f"more than {max_bytes} bytes")
