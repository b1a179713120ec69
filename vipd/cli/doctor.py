"""``vipd doctor``: a look at everything that an election depends on, before it depends on it."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from vipd.cli import common
from vipd.config import MemberSettings, from_flags, host_from_flags, table
from vipd.config.flags import add_arguments as add_options
from vipd.config.table_host import HOST_OPTIONS
from vipd.errors import ConfigError

EPILOG = """\
  vipd doctor host --vip 10.0.1.100 --lease nodeport-vip
  vipd doctor sidecar --vip 10.0.1.100 --lease web-vip -o json

Run it where vipd itself would run, with the same flags, variables and file; nothing is touched. Each line is one check:
✓ it is well, ! somebody should know, ✗ vipd would not work, ? it could not be found out.
Exit codes: 0 nothing fails; 1 something does; 2 wrong usage or configuration.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The modes, each with its own flags."""
    parser.epilog = EPILOG
    modes = parser.add_subparsers(dest="mode", metavar="MODE", required=True, title="modes")
    for name, summary, options in (
        ("sidecar", "what 'vipd sidecar --vip ...' depends on", table.SIDECAR_OPTIONS),
        ("host", "what 'vipd host' depends on, kube-proxy and the VPC CNI among it", HOST_OPTIONS),
    ):
        mode = modes.add_parser(name, help=summary, epilog=EPILOG, formatter_class=parser.formatter_class)
        mode.add_argument("-o", "--output", **common.choices(("table", "json")), help="form [default: table]")
        add_options(mode, (*options, table.CONFIG))


def run(args: argparse.Namespace) -> int:
    """Look, and tell; the exit code.  Raises ConfigError."""
    settings = _settings(args)
    status = Path("/proc/self/status").read_text()
    return common.piped(lambda: asyncio.run(_run(settings, args.output, status)))


def _settings(args: argparse.Namespace) -> MemberSettings:
    if args.mode == "host":
        return host_from_flags(args, os.environ)
    settings = from_flags(args, os.environ)
    if not settings.vips:
        raise ConfigError("--vip: not given; allowed: the VIPs and the Lease of the sidecar that is to be examined")
    return settings


async def _run(settings: MemberSettings, output: str, proc_status: str) -> int:
    from vipd.doctor.finding import as_json, exit_code, table
    from vipd.doctor.run import examine

    findings = await examine(settings, os.environ, proc_status)
    print((as_json if output == "json" else table)(findings), end="")
    return exit_code(findings)
