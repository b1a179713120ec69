"""The entry points: help, commands, exit codes, and one line for each error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from vipd import __version__
from vipd.cli import main as cli
from vipd.config.table import CONFIG, SIDECAR_OPTIONS
from vipd.errors import ConfigError, TimeUp, VipdError

Lab = Callable[..., int]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Callable[[Lab], None]:
    """Puts a command of the test's own in the place of ``vipd lab``."""

    def put(run: Lab) -> None:
        module = ModuleType("vipd.cli.lab")
        module.add_arguments = lambda parser: parser.add_argument("--rounds", type=int)  # type: ignore[attr-defined]
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "vipd.cli.lab", module)

    return put


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Callable[[Lab], None]:
    """Puts the test's own function in the place of the agent."""

    def put(run: Lab) -> None:
        module = ModuleType("vipd.agent.sidecar")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "vipd.agent.sidecar", module)
        for variable in [name for name in os.environ if name.startswith(("VIPD_", "POD_"))]:
            monkeypatch.delenv(variable)

    return put


def raising(error: BaseException) -> Lab:
    def run(*_: Any) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "COMMAND"),
        (["sidecra"], "command 'sidecra': unknown; did you mean sidecar?"),
        (["zzz"], "command 'zzz': unknown; there are init, sidecar, host, status, handover, userdata, doctor, lab"),
        (["--verson", "sidecar"], "flag '--verson': unknown; did you mean --version?"),
        (["sidecar", "--leas=x"], "flag '--leas': unknown; did you mean --lease? (see vipd sidecar --help)"),
        (["sidecar", "--lease"], "flag --lease: expected one argument (see vipd sidecar --help)"),
        (["sidecar", "--priority=x"], "flag --priority: 'x' is not possible; allowed: a whole number from 0 to 255"),
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


def test_the_help_of_the_sidecar_shows_every_option_with_its_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit) as caught:
        cli.main(["sidecar", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for option in (*SIDECAR_OPTIONS, CONFIG):
        metavar = f"[{option.metavar}]" if option.boolean else option.metavar
        assert f"{option.flag} {metavar}" in text
        assert option.variable in text


def test_version_and_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"vipd {__version__}\n"
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"    {command} " in text for command in cli.COMMANDS)


def test_a_plugin_of_kubectl_goes_by_its_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["kubectl-vipd", "--help"])
    with pytest.raises(SystemExit):
        cli.kubectl()
    assert capsys.readouterr().out.startswith("usage: kubectl vipd ")


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigError("no"), 2, "vipd: error: no\n"),
        (VipdError("broke"), 1, "vipd: error: broke\n"),
        (TimeUp("late"), 3, "vipd: error: late\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_command_ends_with_the_exit_code_of_its_error(
    capfd: pytest.CaptureFixture[str], lab: Callable[[Lab], None], error: BaseException, code: int, told: str
) -> None:
    lab(raising(error))
    assert cli.main(["lab", "--rounds=3"]) == code
    assert capfd.readouterr().err == told


def test_a_sigterm_before_the_command_has_begun_ends_it_with_143() -> None:
    # As a container's first process vipd would not get it at all, were it not handled.
    code = (
        "import os, signal, sys; import vipd.cli.main as cli\n"
        "cli._dispatch = lambda prog, argv: os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.exit(cli.main([]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (143, "")


def test_what_must_not_happen_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture, lab: Callable[[Lab], None]
) -> None:
    lab(raising(ZeroDivisionError("oops")))
    assert cli.main(["lab"]) == 1
    assert "ZeroDivisionError: oops" in caplog.text


def test_a_command_gets_its_flags_and_what_followed_its_name(lab: Callable[[Lab], None]) -> None:
    got: list[Any] = []
    lab(lambda args: got.append((args.rounds, args.argv)) or 7)
    assert cli.main(["lab", "--rounds", "3"]) == 7
    assert got == [(3, ["--rounds", "3"])]


def test_a_missing_extra_is_named(capfd: pytest.CaptureFixture[str], lab: Callable[[Lab], None]) -> None:
    lab(raising(ModuleNotFoundError("No module named 'rich.live'", name="rich.live")))
    assert cli.main(["lab"]) == 1
    assert capfd.readouterr().err == (
        "vipd: error: vipd lab needs rich, which is not installed; install it with: pip install 'vipd[lab]'\n"
    )


def test_the_sidecar_gets_settings_arguments_and_environment(agent: Callable[[Lab], None]) -> None:
    got: list[Any] = []
    agent(lambda *args: got.append(args) or 0)
    argv = ["--vip=10.0.1.100", "--lease", "sidecar", "--log-format=json"]
    assert cli.main(["sidecar", *argv]) == 0
    [(settings, rest, environ)] = got
    assert (settings.lease, rest) == ("sidecar", argv)
    assert environ is os.environ


@pytest.mark.parametrize(
    ("error", "code", "key"), [(TimeUp("no net1"), 3, "msg"), (ZeroDivisionError("no net1"), 1, "exc")]
)
def test_the_sidecar_logs_its_failure_as_it_logs_everything(
    capfd: pytest.CaptureFixture[str], agent: Callable[[Lab], None], error: Exception, code: int, key: str
) -> None:
    agent(raising(error))
    assert cli.main(["sidecar", "--vip=10.0.1.100", "--lease=web", "--grace=3s"]) == code
    poor, failure = map(json.loads, capfd.readouterr().err.splitlines())
    assert (poor["level"], failure["level"]) == ("warning", "error")
    assert "grace" in poor["msg"]
    assert "no net1" in failure[key]


def test_as_a_process_it_starts_without_heavy_libraries() -> None:
    code = (
        "import sys; from vipd.cli.main import main\n"
        "assert main(['sidecar', '--priority=x']) == 2\n"
        "heavy = {'asyncio', 'aiohttp', 'boto3', 'kubernetes', 'pyroute2', 'scapy', 'yaml', 'prometheus_client'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([sys.executable, "-m", "vipd", "x"], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2, done.stderr
