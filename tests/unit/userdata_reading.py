"""User data read back as the node's tools read it: MIME parts, cloud-config, TOML, and the files in them."""

from __future__ import annotations

import base64
import email
import re
import tomllib
from email.message import Message
from typing import Any

import yaml

from vipd.cli import main as cli
from vipd.userdata.shell import END

FILE = re.compile(rf"^cat > (\S+) <<'{END}'\n(.*?)^{END}\nchmod (\d+) \1\n", re.MULTILINE | re.DOTALL)


def parts(text: str) -> dict[str, str]:
    """The MIME parts by their content type."""
    message = email.message_from_string(text)
    assert message.get_content_type() == "multipart/mixed"
    found = {}
    for part in message.get_payload():
        assert isinstance(part, Message)
        assert part.defects == []
        found[part.get_content_type()] = str(part.get_payload())
    assert message.defects == []
    return found


def written(text: str) -> dict[str, str]:
    """Every file that the user data puts on the node, by path, whatever the format."""
    if text.startswith("#cloud-config\n"):
        return {file["path"]: file["content"] for file in yaml.safe_load(text)["write_files"]}
    if text.startswith("MIME-Version"):
        return {path: content for path, content, _ in FILE.findall(parts(text)["text/x-shellscript"])}
    (container,) = toml(text)["bootstrap-containers"].values()
    return {"user-data": base64.b64decode(container["user-data"]).decode()}


def toml(text: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(text)["settings"]
    return found


def scripts(text: str) -> dict[str, str]:
    """What is run: the files that are programs, and the user data itself where it is one."""
    found = {path: content for path, content in written(text).items() if content.startswith("#!")}
    if text.startswith("MIME-Version"):
        found["the part itself"] = parts(text)["text/x-shellscript"]
    return found


def userdata(capsys: Any, *argv: str) -> str:
    """What the command prints."""
    assert cli.main(["userdata", *argv]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return str(out)
