"""``vipd host``: settings in, logging on, then the agent."""

from __future__ import annotations

import argparse
import os

from vipd.cli.serve import serve
from vipd.config import host_from_flags, table, table_host
from vipd.config.flags import add_arguments as add_options

EPILOG = """\
Every flag has a variable (named in brackets) and a key in the --config file, named as the flag without '--'.
Flag beats variable beats file. An empty variable says nothing.

  vipd host --vip 10.0.1.100 --lease nodeport-vip
  vipd host --vip 10.0.1.100/24 --lease nodeport-vip --address-mode static   (user data has put it on every node)
  vipd host --vip 10.0.1.100 --lease nodeport-vip --check http://127.0.0.1:32000/healthz   (a healthCheckNodePort)

It runs in the host's network: as a DaemonSet with hostNetwork, or on the node with KUBECONFIG.
SIGTERM hands over and ends; SIGHUP reads the configuration again; SIGUSR1 logs the whole state.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the table."""
    parser.usage = "%(prog)s --vip ADDR[/PREFIX][%%IF] ... --lease NAME [flag ...]"
    parser.epilog = EPILOG
    add_options(parser, (*table_host.HOST_OPTIONS, table.CONFIG))


def run(args: argparse.Namespace) -> int:
    """Run on the host until told to stop; the exit code.  Raises ConfigError before anything is touched."""
    settings = host_from_flags(args, os.environ)

    def run_agent() -> int:
        from vipd.agent.host import run as run_host

        return run_host(settings, args.argv, os.environ)

    return serve(settings, run_agent)
