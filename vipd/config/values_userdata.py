"""How the values of ``vipd userdata`` are written: text in, typed value out.

They end up in shell scripts, YAML and TOML.  Everything is quoted there; what is refused here is refused because it
can be no such value, not because quoting would fail.  As in ``vipd.config.values`` nothing but ValueError is raised.
"""

from __future__ import annotations

import base64
import binascii
import re

from vipd.config import values
from vipd.config.model_userdata import Image, StaticAddress, Wheel, WheelFrom
from vipd.core.model import Network

LONGEST = 1024
"""Characters of a path, URL or image reference: more cannot be meant, and user data has 16 KiB for everything."""

_PINNED = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?==[A-Za-z0-9][A-Za-z0-9.!+_-]*", re.ASCII)
_HTTPS = re.compile(r"https://[A-Za-z0-9.-]+(:(?P<port>[0-9]{1,5}))?/[!-~]+?\.whl(#sha256=[0-9a-f]{64})?", re.ASCII)
_S3 = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[!-~]+\.whl", re.ASCII)
_FILE = re.compile(r"/[A-Za-z0-9._/+!-]+\.whl", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9._/-]*[A-Za-z0-9._-]", re.ASCII)
_IMAGE = re.compile(
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*(:(?P<port>[0-9]{1,5}))?)/(?P<path>[a-z0-9][a-z0-9._/-]*)"
    r"(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(@sha256:(?P<digest>[0-9a-f]{64}))?",
    re.ASCII,
)
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}", re.ASCII)
_CLUSTER = re.compile(r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}", re.ASCII)
_ENDPOINT = re.compile(r"https://([A-Za-z0-9.-]+|\[[0-9a-f:]+\])(:(?P<port>[0-9]{1,5}))?/?", re.ASCII)


def vip(text: str) -> StaticAddress:
    """``ADDR/PREFIX``.  Without a prefix the kernel would take /32 in silence, and few mean that who leave it out."""
    if "%" in text:
        raise ValueError("names an interface, which --interface does here for all")
    if "/" not in text:
        raise ValueError("has no prefix")
    known = values.vip(text)
    return StaticAddress(known.address, known.prefixlen)


def interface(text: str) -> str | None:
    """``auto`` (None) or an interface's name."""
    return None if text == "auto" else values.interface(text)


def wheel(text: str) -> Wheel:
    """``NAME==VERSION``, an https or s3 URL, or an absolute path."""
    for pattern, source in (
        (_PINNED, WheelFrom.INDEX),
        (_HTTPS, WheelFrom.URL),
        (_S3, WheelFrom.S3),
        (_FILE, WheelFrom.FILE),
    ):
        match = pattern.fullmatch(text) if len(text) <= LONGEST else None
        if match is not None:
            _check_port(match)
            return Wheel(text, source)
    raise ValueError


def image(text: str) -> Image:
    """A reference with its registry, pinned.  containerd's ctr adds neither docker.io nor :latest."""
    match = _IMAGE.fullmatch(text) if len(text) <= LONGEST else None
    if match is None or not ("." in match["host"] or ":" in match["host"] or match["host"] == "localhost"):
        raise ValueError
    _check_port(match)
    if match["digest"] is None and match["tag"] in (None, "latest"):
        raise ValueError("is not pinned: nodes that boot later would run something else")
    return Image(text)


def bootstrap_image(text: str) -> str:
    """As ``image``, for Bottlerocket."""
    return image(text).reference


def absolute_path(text: str) -> str:
    """A path on the node, of plain characters: ctr's --mount has commas and '=' for itself."""
    if len(text) > LONGEST or not _PATH.fullmatch(text):
        raise ValueError
    return text


def role_arn(text: str) -> str:
    """An IAM role."""
    if not _ROLE.fullmatch(text):
        raise ValueError("is no ARN of an IAM role")
    return text


def cluster(text: str) -> str:
    """An EKS cluster's name."""
    if not _CLUSTER.fullmatch(text):
        raise ValueError("is no name of an EKS cluster")
    return text


def endpoint(text: str) -> str:
    """An API server's URL."""
    match = _ENDPOINT.fullmatch(text) if len(text) <= LONGEST else None
    if match is None:
        raise ValueError
    _check_port(match)
    return text


def _check_port(match: re.Match[str]) -> None:
    port = match.groupdict().get("port")
    if port is not None and not 1 <= int(port) <= 65535:
        raise ValueError("has a port that cannot be: 1 to 65535 can")


def certificate_authority(text: str) -> str:
    """PEM in base64, on one line."""
    try:
        pem = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("is no base64") from error
    if not pem.startswith(b"-----BEGIN CERTIFICATE-----"):
        raise ValueError("is no PEM certificate in base64")
    return text


def service_cidr(text: str) -> Network:
    """The cluster's block of Service addresses; the tenth of it is the DNS Service."""
    network = values.cidr(text)
    if network.num_addresses < 16:
        raise ValueError("is too small for Services")
    return network
