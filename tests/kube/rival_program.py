"""The rival candidate (``rival/main.go``) as a program: built once, kept in a cache folder.

    python tests/kube/rival_program.py   builds it and prints where it is; no Go is no error

Its name bears the hash of its sources, and it is moved into place when it is whole: what is there is made of what is
here.  Its Go modules are pinned; a run without a network (the tests' sandbox) builds it from modules that are there
already, or says why it cannot.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vipd.errors import VipdError
from vipd.lab.sandbox import in_sandbox

SOURCES = Path(__file__).resolve().parent / "rival"
BUILD_S = 600.0


class NoGo(VipdError):
    """There is no Go to build it with."""


def program() -> Path:
    """Where the program is; builds it when it is not there.  Raises VipdError where it cannot be built."""
    path = _cache() / f"rival-{_hash()}"
    if not os.access(path, os.X_OK):
        _build(path)
    return path


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path(os.environ.get("HOME") or "/root") / ".cache")
    return Path(base) / "vipd"


def _hash() -> str:
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "main.go"):
        digest.update((SOURCES / name).read_bytes())
    return digest.hexdigest()[:16]


def _build(path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise NoGo("the rival candidate is built with Go, and there is no program go")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never another toolchain than the one that is there: it would have to be downloaded.
    environ = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    if in_sandbox():
        environ["GOPROXY"] = "off"
    with tempfile.TemporaryDirectory(prefix="rival.", dir=path.parent) as folder:
        made = Path(folder) / path.name
        command = [go, "build", "-trimpath", "-ldflags", "-s -w", "-o", str(made), "."]
        try:
            done = subprocess.run(
                command, cwd=SOURCES, env=environ, capture_output=True, text=True, timeout=BUILD_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise VipdError(f"building the rival candidate took longer than {BUILD_S:.0f} s") from None
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            raise VipdError(f"the rival candidate cannot be built ({' '.join(command[:2])}): {said[-1]}")
        made.replace(path)


if __name__ == "__main__":
    try:
        print(program())
    except NoGo as error:
        print(f"{error}; the tests against it will be skipped", file=sys.stderr)
    except VipdError as error:
        sys.exit(str(error))
