"""``/app/script.sh``: the manifests of the sample that vipd replaces run unchanged."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from vipd.shim import SCRIPT

INIT = """
initContainers:
- name: aws-ip-mgmt
  image: xxxxxxxxx.dkr.ecr.us-east-2.amazonaws.com/aws-ip-manager:0.1
  imagePullPolicy: IfNotPresent
  args: [/bin/sh, -c, '/app/script.sh initContainers']
"""
SIDECAR = """
containers:
- name: aws-ip-mgmt
  image: xxxxxx.dkr.ecr.us-east-2.amazonaws.com/aws-ip-manager:0.1
  imagePullPolicy: Always
  args: [/bin/sh, -c, '/app/script.sh sidecar']
"""
"""As the sample's README has them."""

FAKE = """#!/bin/sh
# Tells how it was started, then does as it is told by FAKE_DOES.
trap 'echo told to stop > "$TOLD.signal"; exit 0' TERM
printf '%s\\n' "$0" "$#" "$@" > "$TOLD"
case "${FAKE_DOES-}" in
exit) exit "$FAKE_CODE" ;;
wait) while :; do sleep 0.02; done ;;
esac
"""

SHELLS = [[path] for name in ("sh", "dash", "bash") if (path := shutil.which(name))]
SHELLS += [[path, "sh"] for name in ("busybox",) if (path := shutil.which(name))]
"""Those of this machine; images have one or another."""

SIGNALLED = [[*shell, str(SCRIPT), "sidecar"] for shell in SHELLS]
# As the manifests have it; with dash for /bin/sh an image would not do (see vipd.shim).
SIGNALLED += [[*shell, "-c", f"{SCRIPT} sidecar"] for shell in SHELLS if Path(shell[0]).name in ("bash", "busybox")]


class Place:
    """A folder with a fake vipd on its PATH, and the script."""

    def __init__(self, folder: Path) -> None:
        self.told = folder / "told"
        self.fake = folder / "bin" / "vipd"
        self.fake.parent.mkdir()
        self.fake.write_text(FAKE)
        self.fake.chmod(0o755)
        self.environ = {"PATH": f"{self.fake.parent}:{os.environ['PATH']}", "TOLD": str(self.told)}

    def run(self, *words: str, shell: list[str] | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [*(shell or []), str(SCRIPT), *words]
        return subprocess.run(command, env={**self.environ, **environ}, capture_output=True, text=True, timeout=20)

    def given(self) -> list[str]:
        """The arguments that vipd was started with."""
        program, count, *words = self.told.read_text().splitlines()
        assert program == str(self.fake)
        assert int(count) == len(words)
        return words


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_every_shell_can_read_it(shell: list[str]) -> None:
    assert subprocess.run([*shell, "-n", str(SCRIPT)], capture_output=True, text=True, timeout=20).stderr == ""


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
@pytest.mark.parametrize(("word", "command"), [("initContainers", "init"), ("sidecar", "sidecar")])
def test_a_mode_is_a_command_of_vipd(place: Place, shell: list[str], word: str, command: str) -> None:
    done = place.run(word, shell=shell)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert place.given() == [command]


@pytest.mark.parametrize(("manifest", "command"), [(INIT, "init"), (SIDECAR, "sidecar")])
def test_the_samples_manifests_run_unchanged(place: Place, tmp_path: Path, manifest: str, command: str) -> None:
    ((container,),) = yaml.safe_load(manifest).values()
    # The image has no ENTRYPOINT, so the args are the command; here /app is elsewhere.
    app = tmp_path / "app"
    app.mkdir()
    shutil.copy(SCRIPT, app)
    words = [word.replace("/app/", f"{app}/") for word in container["args"]]
    done = subprocess.run(words, env=place.environ, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    assert place.given() == [command]


def test_further_words_are_passed_on_as_they_are(place: Place) -> None:
    place.run("initContainers", "--timeout", "2m", "--interface", "a b", "", "*")
    assert place.given() == ["init", "--timeout", "2m", "--interface", "a b", "", "*"]


def test_variables_are_passed_on(place: Place) -> None:
    place.fake.write_text('#!/bin/sh\nprintf \'%s\\n\' "$0" 1 "$VIPD_VIP" > "$TOLD"\n')
    place.run("sidecar", VIPD_VIP="10.0.1.100", NODEPORT_IP="10.0.0.201/24")
    assert place.given() == ["10.0.1.100"]


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_exit_code_is_vipds(place: Place, code: int) -> None:
    assert place.run("initContainers", FAKE_DOES="exit", FAKE_CODE=str(code)).returncode == code


@pytest.mark.parametrize("words", SIGNALLED, ids=" ".join)
def test_signals_reach_vipd_because_it_takes_the_shells_place(place: Place, words: list[str]) -> None:
    with subprocess.Popen(words, env={**place.environ, "FAKE_DOES": "wait"}) as process:
        deadline = time.monotonic() + 20
        while not (place.told.exists() and place.told.read_text().endswith("sidecar\n")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert place.told.with_suffix(".signal").read_text() == "told to stop\n"


@pytest.mark.parametrize("word", ["nodeport", "init", "--help", "Sidecar", "sidecar sidecar", " "])
def test_an_unknown_word_is_one_sentence_and_exit_code_2(place: Place, word: str) -> None:
    done = place.run(word)
    assert done.returncode == 2
    assert done.stderr == f"script.sh: error: mode '{word}': unknown; allowed: 'initContainers' or 'sidecar'\n"
    assert not place.told.exists()


NODEPORT = """
containers:
- name: aws-nodeport-mgmt
  image: xxxxxx.dkr.ecr.us-east-2.amazonaws.com/aws-ip-manager:0.1
  args: [/bin/sh, -c, '/app/script.sh']
  env: [{name: NODEPORT_IP, value: 10.0.0.201/24}]
"""
LEASE = '#!/bin/sh\nprintf "%s\\n" "$0" $(($# + 1)) "$@" "$VIPD_LEASE" > "$TOLD"\n'
"""A vipd that tells the Lease, too."""


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_nodeport_ip_elects_the_node_whose_eni_gets_it(place: Place, shell: list[str]) -> None:
    place.fake.write_text(LEASE)
    ((container,),) = yaml.safe_load(NODEPORT).values()
    (variable,) = container["env"]
    done = place.run(shell=shell, **{variable["name"]: variable["value"]})
    assert (done.returncode, done.stderr) == (0, "")
    assert place.given() == ["host", "--vip", "10.0.0.201/24", "--address-mode", "static", "nodeport-10-0-0-201"]


@pytest.mark.parametrize(
    ("environ", "mode", "lease"),
    [
        ({"NODEPORT_IP": "10.0.0.201", "VIPD_LEASE": "web"}, "static", "web"),
        ({"NODEPORT_IP": "10.0.0.201", "VIPD_ADDRESS_MODE": "managed"}, "managed", "nodeport-10-0-0-201"),
        ({"NODEPORT_IP": "fd00:10::201/64"}, "static", "nodeport-fd00-10--201"),
        ({"NODEPORT_IP": "FD00:10::BEEF/64"}, "static", "nodeport-fd00-10--beef"),
        ({"NODEPORT_IP": "; rm -rf *"}, "static", "nodeport-; rm -rf *"),
    ],
)
def test_the_lease_and_the_mode_may_be_told(place: Place, environ: dict[str, str], mode: str, lease: str) -> None:
    place.fake.write_text(LEASE)
    assert place.run("", "--priority", "7", **environ).returncode == 0
    assert place.given() == ["host", "--vip", environ["NODEPORT_IP"], "--address-mode", mode, "--priority", "7", lease]


@pytest.mark.parametrize("environ", [{}, {"NODEPORT_IP": ""}])
def test_without_a_mode_nothing_is_started(place: Place, environ: dict[str, str]) -> None:
    done = place.run(**environ)
    assert done.returncode == 2
    assert done.stderr == (
        "script.sh: error: no mode given, and NODEPORT_IP is not set; allowed: 'initContainers', 'sidecar', or "
        "NODEPORT_IP=ADDR/PREFIX\n"
    )
    assert not place.told.exists()


def test_it_is_a_program() -> None:
    assert SCRIPT.read_text().startswith("#!/bin/sh\n")
    assert os.access(SCRIPT, os.X_OK)
