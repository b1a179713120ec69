"""``vipd sidecar``: settings in, logging on, then the agent."""

from __future__ import annotations

import argparse
import os

from vipd.cli.serve import serve
from vipd.config import from_flags, table
from vipd.config.flags import add_arguments as add_options

EPILOG = """\
Every flag has a variable (named in brackets) and a key in the --config file, named as the flag without '--'.
Flag beats variable beats file. An empty variable says nothing.

  vipd sidecar                                    (follows the pod's own addresses, needs no Kubernetes API)
  vipd sidecar --vip 10.0.1.100 --lease web-vip   (elects the owner of a VIP, too)
  vipd sidecar --vip 10.0.1.100/24%net1 --vip fd00:10:0:1::100 --lease web-vip --lease-duration 3s --priority 150

SIGTERM hands over and ends; SIGHUP reads the configuration again; SIGUSR1 logs the whole state.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the table."""
    parser.usage = "%(prog)s [--vip ADDR[/PREFIX][%%IF] ... --lease NAME] [flag ...]"
    parser.epilog = EPILOG
    add_options(parser, (*table.SIDECAR_OPTIONS, table.CONFIG))


def run(args: argparse.Namespace) -> int:
    """Run the sidecar until told to stop; the exit code.  Raises ConfigError before anything is touched."""
    settings = from_flags(args, os.environ)

    def run_agent() -> int:
        from vipd.agent.sidecar import run as run_sidecar

        return run_sidecar(settings, args.argv, os.environ)

    return serve(settings, run_agent)
