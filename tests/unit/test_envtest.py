"""``make envtest`` says what is missing, leaves nothing half, and builds once; with a ``go`` that builds in no time."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vipd.errors import VipdError
from vipd.lab.controlplane.binaries import find

PROVIDE = Path(__file__).parent.parent / "kube" / "envtest" / "provide"
TOOLS = ("bash", "cat", "chmod", "cut", "dirname", "echo", "flock", "mkdir", "mktemp", "mv", "rm", "sha256sum", "sleep")
PROGRAM = "#!/bin/sh\necho v1\n"
GO = """#!/usr/bin/env bash
[ "$1" = list ] && { echo v1.2.3; exit; }
while [ "$1" != -o ]; do shift; done
program=${2##*/}
echo "$program" >> "$BUILDS"
sleep 0.3
[ "$program" = "${REFUSED:-}" ] && { echo "no $program today" >&2; exit 1; }
printf '#!/bin/sh\\necho v1\\n' > "$2"
chmod +x "$2"
"""


class Machine:
    """Programs, a home and a Go of its own."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder / "bin"
        self.programs.mkdir()
        for tool in TOOLS:
            where = shutil.which(tool)
            assert where is not None, f"these tests need {tool}"
            (self.programs / tool).symlink_to(where)
        self.cache = folder / "home" / ".cache" / "vipd" / "envtest"
        self.log = folder / "builds"
        self.environ = {"PATH": str(self.programs), "HOME": str(folder / "home"), "BUILDS": str(self.log)}
        executable(self.programs / "go", GO)

    def start(self, **environ: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen([PROVIDE], env=self.environ | environ, stdout=pipe, stderr=pipe, text=True)

    def provide(self, **environ: str) -> tuple[int, str, str]:
        process = self.start(**environ)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def builds(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


def executable(path: Path, text: str = PROGRAM) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_programs_are_built_once_and_found_where_it_says(machine: Machine) -> None:
    for _ in range(2):
        code, out, _ = machine.provide()
        assert (code, out) == (0, f"{machine.cache}\n")
    assert machine.builds() == ["kube-apiserver", "kube-proxy", "etcd"]
    found = find(machine.environ)
    assert {found.kube_apiserver, found.etcd} == {machine.cache / "kube-apiserver", machine.cache / "etcd"}


def test_a_program_that_somebody_removed_is_built_again(machine: Machine) -> None:
    machine.provide()
    (machine.cache / "etcd").unlink()
    assert machine.provide()[0] == 0
    assert os.access(machine.cache / "etcd", os.X_OK)


def test_two_at_once_build_once(machine: Machine) -> None:
    both = [machine.start() for _ in range(2)]
    outs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outs == [f"{machine.cache}\n"] * 2
    assert machine.builds() == ["kube-apiserver", "kube-proxy", "etcd"]


@pytest.mark.parametrize("refused", ["kube-apiserver", "kube-proxy", "etcd"])
def test_a_build_that_fails_leaves_nothing_half(machine: Machine, refused: str) -> None:
    code, out, err = machine.provide(REFUSED=refused)
    assert (code, out) == (1, "")
    assert f"no {refused} today\nmake envtest: {refused} cannot be built; go says above why\n" in err
    assert {path.name for path in machine.cache.iterdir()} == {"lock"}
    with pytest.raises(VipdError, match=r"there is no kube-apiserver and no etcd in .*; `make envtest` provides them"):
        find(machine.environ)
    assert machine.provide()[0] == 0


def test_what_a_killed_build_left_goes_with_the_next_one(machine: Machine) -> None:
    left = machine.cache / "new.killed"
    left.mkdir(parents=True)
    executable(left / "kube-apiserver")
    assert machine.provide()[0] == 0
    assert {path.name for path in machine.cache.iterdir()} == {
        "lock",
        "sources",
        "kube-apiserver",
        "kube-proxy",
        "etcd",
    }


def test_without_go_one_line_says_what_to_install(machine: Machine) -> None:
    (machine.programs / "go").unlink()
    code, out, err = machine.provide()
    assert (code, out) == (1, "")
    assert err.startswith("make envtest: building kube-apiserver needs Go 1.26 or newer")
    assert err.count("\n") == 1


def test_assets_of_ones_own_are_taken_and_nothing_is_built(machine: Machine, tmp_path: Path) -> None:
    for program in ("kube-apiserver", "etcd"):
        executable(tmp_path / program)
    assert machine.provide(KUBEBUILDER_ASSETS=str(tmp_path)) == (0, f"{tmp_path}\n", "")
    assert machine.builds() == []
    assert find(machine.environ | {"KUBEBUILDER_ASSETS": str(tmp_path)}).etcd == tmp_path / "etcd"


def test_assets_that_are_not_whole_are_one_clear_error(machine: Machine, tmp_path: Path) -> None:
    executable(tmp_path / "kube-apiserver")
    executable(tmp_path / "etcd", "#!/bin/sh\nexit 1\n")
    code, out, err = machine.provide(KUBEBUILDER_ASSETS=str(tmp_path))
    assert (code, out) == (1, "")
    assert err.startswith(f"make envtest: KUBEBUILDER_ASSETS is {tmp_path}, but etcd is not there or does not run")
    assert err.count("\n") == 1
    (tmp_path / "etcd").unlink()
    with pytest.raises(VipdError, match=f"there is no etcd in KUBEBUILDER_ASSETS={tmp_path}; `make envtest` provides"):
        find({"KUBEBUILDER_ASSETS": str(tmp_path)})


def test_a_relative_folder_means_the_one_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("kube-apiserver", "etcd"):
        executable(tmp_path / program)
    monkeypatch.chdir(tmp_path.parent)
    assert find({"KUBEBUILDER_ASSETS": tmp_path.name}).kube_apiserver == tmp_path / "kube-apiserver"
