"""``examples/nodeport/userdata``: each file is what the command beside it in the README prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from manifests import EXAMPLES
from userdata_reading import userdata

FOLDER = EXAMPLES / "nodeport" / "userdata"
ROW = re.compile(r"^\| `([\w.-]+)` \| `vipd userdata ([^`]+)` \|", re.MULTILINE)
COMMANDS = dict(ROW.findall((FOLDER / "README.md").read_text()))


def test_the_readme_has_a_command_for_every_file() -> None:
    assert set(COMMANDS) == {file.name for file in FOLDER.iterdir()} - {"README.md"}
    assert {name.split("-")[0] for name in COMMANDS} == {"al2023", "al2", "ubuntu", "bottlerocket"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_is_what_its_command_prints(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert Path(FOLDER / name).read_text() == userdata(capsys, *shlex.split(COMMANDS[name]))
