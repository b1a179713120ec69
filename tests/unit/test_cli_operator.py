"""``vipd status`` and ``vipd handover``: wrong usage is told before any API is asked, and help says what is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from vipd.cli import main as cli


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["status", "-n", "No"], "flag --namespace: 'No' is no RFC 1123 label; allowed: an RFC 1123 label"),
        (["status", "-n="], "flag --namespace: "),
        (["status", "-A", "-n", "prod"], "flag --all-namespaces: it excludes --namespace; allowed: one of them"),
        (["status", "-A", "--lease", "x"], "flag --lease: a Lease is in one namespace; allowed: --namespace, not"),
        (["status", "--lease", "a b"], "flag --lease: 'a b' is no RFC 1123 name; allowed: an RFC 1123 name"),
        (["status", "-o", "wide"], "invalid choice: 'wide'"),
        (["status", "--wach"], "flag '--wach': unknown; did you mean --watch?"),
        (["status", "web-vip"], "argument 'web-vip': unknown"),
        (["status", "--kubeconfig", ""], "flag --kubeconfig: no value; allowed: the path of a kubeconfig file"),
        (
            ["status", "--kubeconfig", "/dev/null/x"],
            "flag --kubeconfig: '/dev/null/x' does not exist; allowed: the path",
        ),
        (["handover", "web", "--kubeconfig", "/"], "flag --kubeconfig: '/' is no file; allowed: the path"),
        (
            ["handover", "web", "-o", "json", "--context", ""],
            "flag --context: no value; allowed: the name of a context",
        ),
        (["handover"], "the following arguments are required: LEASE"),
        (["handover", "Web"], "argument LEASE: 'Web' is no RFC 1123 name"),
        (["handover", "web", "--wait", "0"], "flag --wait: '0' is out of range; allowed: 0.1s to 1h"),
        (["handover", "web", "--wait", "soon"], "flag --wait: 'soon' is not possible; allowed: 0.1s to 1h"),
        (["handover", "web", "--to", ""], "flag --to: no value; allowed: 1 to 300 visible ASCII characters"),
        (["handover", "web", "-o", "yaml"], "invalid choice: 'yaml'"),
        (["handover", "web", "-A"], "flag '-A': unknown"),
    ],
)
def test_wrong_usage_is_one_line_on_stderr_and_exit_code_2(
    capfd: pytest.CaptureFixture[str], argv: list[str], told: str
) -> None:
    assert cli.main(argv) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("vipd: error: ")
    assert err.count("\n") == 1
    assert told in err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("status", ("--all-namespaces", "--lease NAME", "--all-leases", "--watch", "json,yaml", "Exit codes: 0 done")),
        ("handover", ("LEASE", "--to CANDIDATE", "--wait TIME", "--force", "3 not done within --wait")),
    ],
)
def test_help_tells_flags_rights_and_exit_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kubectl-vipd", command, "--help"])
    with pytest.raises(SystemExit) as caught:
        cli.kubectl()
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert text.startswith(f"usage: kubectl vipd {command} ")
    for word in (*words, "--kubeconfig FILE", "--context NAME", "-n", "list Pods and Nodes"):
        assert word in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("argv", [["status"], ["status", "--watch"], ["handover", "web-vip"]])
def test_without_a_kubeconfig_it_says_what_to_do(argv: list[str], tmp_path: object) -> None:
    done = vipd(*argv, KUBECONFIG=f"{tmp_path}/none")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("vipd: error: There is no Kubernetes configuration: this is no pod, and ")
    assert done.stderr.count("\n") == 1


def test_a_handover_in_json_is_an_object_also_where_there_is_no_api(tmp_path: object) -> None:
    done = vipd("handover", "web-vip", "-o", "json", KUBECONFIG=f"{tmp_path}/none")
    found = json.loads(done.stdout)
    assert (done.returncode, found["result"], found["lease"], found["namespace"]) == (1, "refused", "web-vip", None)
    assert found["reason"].startswith("There is no Kubernetes configuration")
    assert (found["vips"], found["from"], found["to"], found["asked_for"], found["id"]) == ([], None, None, None, None)
    assert done.stderr == f"vipd: error: {found['reason']}\n"


@pytest.mark.parametrize("argv", [["status"], ["handover", "web-vip"]])
def test_a_context_in_a_pod_is_one_of_a_kubeconfig(argv: list[str], tmp_path: object) -> None:
    pod = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBECONFIG": f"{tmp_path}/none"}
    assert "has no ServiceAccount credentials" in vipd(*argv, **pod).stderr
    said = vipd(*argv, "--context", "prod", **pod).stderr
    assert said == (
        f"vipd: error: There is no Kubernetes configuration: --context asks for a kubeconfig, and {tmp_path}/none does "
        "not exist. Set KUBECONFIG to a kubeconfig file, or leave the flag out to be the pod's ServiceAccount.\n"
    )


def vipd(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """As a process, with nothing of Kubernetes in its environment but what is said."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
    command = [sys.executable, "-m", "vipd", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env={**clean, **environ}, check=False)


@pytest.mark.parametrize(
    "argv", [["userdata", "--vip", "10.0.1.100/32"], ["lab", "scenarios"], ["lab", "scenarios", "-o", "json"]]
)
def test_output_that_cannot_be_written_is_one_line(argv: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vipd", *argv],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "vipd: error: cannot write to stdout: No space left on device\n")


@pytest.mark.parametrize("argv", [["lab", "scenarios"], ["doctor", "--help"]])
def test_who_reads_it_may_know_ascii_alone(argv: list[str]) -> None:
    done = vipd(*argv, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "?" in done.stdout
    assert done.stdout.isascii()


def test_output_that_nobody_reads_any_more_is_no_error(tmp_path: object) -> None:
    code = (
        "import sys; from vipd.cli.common import piped\n"
        "def job():\n"
        "    for _ in range(100_000): print('x' * 100)\n"
        "    return 0\n"
        "sys.exit(piped(job))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(20) == 0
