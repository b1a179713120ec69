"""The entry point of ``vipd`` and ``kubectl vipd``: finds the command, runs it, turns its end into an exit code.

Exit codes: 0 done; 1 failed at run time; 2 wrong usage or configuration; 3 ran out of the time given; 130 interrupted;
143 ended by SIGTERM before the command had begun (sidecar and others handle it themselves from then on).
"""

from __future__ import annotations

import importlib
import logging
import signal
import sys
from collections.abc import Sequence
from types import FrameType, ModuleType
from typing import Any

from vipd import __version__
from vipd.config.flags import Parser
from vipd.config.option import did_you_mean, quoted
from vipd.errors import ConfigError, VipdError

COMMANDS = {
    "init": "in a pod's initContainer: map the pod's addresses to their ENIs, confirm it, and end",
    "sidecar": "follow a pod's addresses; elect the owner of floating IPs, bear, announce and map them",
    "host": "on nodes: elect the owner of a NodePort VIP, bear it and map it",
    "status": "who holds the Leases, since when, until when, and what is going on",
    "handover": "ask the holder of a Lease to hand it over, and see it done",
    "userdata": "print EC2 user data for nodes that bear a NodePort VIP",
    "doctor": "look at everything that an election depends on, before it depends on it",
    "lab": "a small VPC on this machine, in network namespaces: demo, scenarios, measurements",
}
"""Each is ``vipd.cli.<name>`` with ``add_arguments(parser)`` and ``run(args) -> int``."""

EXTRAS = {"matplotlib": "lab", "rich": "lab"}
"""Packages that an ordinary installation does without, and the extra that brings them."""

INTERRUPTED = 130
"""128 + SIGINT, as shells do."""

TERMINATED = 128 + signal.SIGTERM

log = logging.getLogger("vipd")


def main(argv: Sequence[str] | None = None) -> int:
    """``vipd``; ``argv`` is what follows the program's name (None: as the process was started)."""
    return _guarded("vipd", sys.argv[1:] if argv is None else argv)


def kubectl() -> int:
    """``kubectl vipd``: the same commands under the name that kubectl gives its plugins."""
    return _guarded("kubectl vipd", sys.argv[1:])


def _guarded(prog: str, argv: Sequence[str]) -> int:
    # Whoever reads our output may know less than all of Unicode.
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    # A container's first process gets no SIGTERM that it does not handle: a pod that is deleted while this one still
    # reads its libraries would wait out its grace period.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)
    try:
        return _dispatch(prog, list(argv))
    except VipdError as error:
        print(f"vipd: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:
        log.exception("vipd failed in a way it must not; please report this")
        return 1


def _terminated(number: int, frame: FrameType | None) -> None:
    sys.exit(TERMINATED)


def _dispatch(prog: str, argv: list[str]) -> int:
    name = next((word for word in argv if not word.startswith("-")), "")
    # Options of the program itself take no value, so the first word that is no option is the command.
    if name and name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS) or f"; there are {', '.join(COMMANDS)}"
        raise ConfigError(f"command {quoted(name)}: unknown{hint} (see {prog} --help)")
    module = _load(name) if name else None
    args = _parser(prog, name, module).parse_args(argv)
    if module is None:
        raise AssertionError("argparse lets nothing pass without a command")
    args.argv = argv[argv.index(name) + 1 :]
    try:
        return int(module.run(args))
    except ModuleNotFoundError as error:
        raise _missing(name, error) from error


def _parser(prog: str, name: str, module: ModuleType | None) -> Parser:
    """The whole command line; only the chosen command's own flags are filled in."""
    parser = Parser(
        prog=prog,
        description="One owner for a floating IP on AWS and Kubernetes, elected through a Lease.",
        epilog=f"'{prog} COMMAND --help' tells a command's flags.",
    )
    parser.add_argument("--version", action="version", version=f"vipd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for command, summary in COMMANDS.items():
        sub = commands.add_parser(command, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if command == name and module is not None:
            module.add_arguments(sub)
    return parser


def _load(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"vipd.cli.{name}")
    except ModuleNotFoundError as error:
        raise _missing(name, error) from error


def _missing(command: str, error: ModuleNotFoundError) -> Exception:
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return error
    extra = EXTRAS[package]
    return VipdError(
        f"vipd {command} needs {package}, which is not installed; install it with: pip install 'vipd[{extra}]'"
    )
