"""``vipd init``: settings in, logging on, then the pod's addresses are mapped."""

from __future__ import annotations

import argparse
import gc
import logging
import os

from vipd.config import load_init, table_init
from vipd.config.flags import add_arguments as add_options
from vipd.errors import VipdError

log = logging.getLogger("vipd")

EPILOG = """\
Every flag has a variable (named in brackets) and a key in the --config file, named as the flag without '--'.
Flag beats variable beats file. An empty variable says nothing; an option that init has not, but vipd sidecar
has, is passed over there.

  vipd init
  vipd init --interface net1 --interface net2 --timeout 2m

Exit codes: 0 every address is mapped to its ENI; 1 one of them never will be; 2 wrong usage; 3 the time is over.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the table."""
    parser.usage = "%(prog)s [--interface IF ...] [flag ...]"
    parser.epilog = EPILOG
    add_options(parser, (*table_init.INIT_OPTIONS, table_init.CONFIG))


def run(args: argparse.Namespace) -> int:
    """Map the addresses; the exit code.  Raises ConfigError before anything is touched."""
    # It ends within seconds: collecting the garbage of the imports would cost it 0.05 s and give nothing back.
    gc.disable()
    settings = load_init(args, os.environ)

    from vipd.observe import logs

    with logs.started(settings.log_format, settings.log_level):
        try:
            from vipd.agent.init import run as run_init

            return run_init(settings, os.environ)
        except VipdError as error:
            log.error("%s", error, extra=logs.fields(exit_code=error.exit_code))
            return error.exit_code
        except Exception:
            log.exception("vipd failed in a way it must not; please report this")
            return 1
