"""``vipd sidecar``: settings in, logging on, then the agent."""

from __future__ import annotations

import argparse
import logging
import os

from vipd.config import from_flags, table
from vipd.config.flags import add_arguments as add_options
from vipd.errors import VipdError

log = logging.getLogger("vipd")

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

    from vipd.observe import logs

    with logs.started(settings.log_format, settings.log_level):
        for note in settings.notes():
            log.warning("poor setting: %s", note)
        try:
            from vipd.agent.sidecar import run as run_agent

            return run_agent(settings, args.argv, os.environ)
        except VipdError as error:
            # In the form of all other lines, which a log collector reads; main() prints plainly.
            log.error("%s", error, extra=logs.fields(exit_code=error.exit_code))
            return error.exit_code
        except Exception:
            log.exception("vipd failed in a way it must not; please report this")
            return 1
