"""A shell script that leaves files on a node and starts the units among them: user data for what has no write_files."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from vipd.userdata.nodefile import NodeFile, starting
from vipd.userdata.parts import HEADER

END = "VIPD_END_OF_FILE"
"""Ends a here-document.  Quoted where it begins, so that the shell leaves the text alone."""


def install_script(files: Iterable[NodeFile]) -> str:
    """Runs as root, once; running it again does no harm."""
    files = tuple(files)
    written = "".join(_written(file) for file in files)
    return HEADER + "\n" + written + "\n" + "".join(f"{shlex.join(command)}\n" for command in starting(files))


def _written(file: NodeFile) -> str:
    if END in file.content.splitlines() or not file.content.endswith("\n"):
        raise ValueError(f"{file.path} cannot stand in a here-document that ends with {END}")
    path = shlex.quote(file.path)
    return f"cat >{path} <<'{END}'\n{file.content}{END}\nchmod {file.mode} {path}\n"
