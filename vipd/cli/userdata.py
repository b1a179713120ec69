"""``vipd userdata``: flags in, user data out."""

from __future__ import annotations

import argparse
import os

from vipd.cli import common
from vipd.config import table
from vipd.config.flags import add_arguments as add_options
from vipd.config.table_userdata import USERDATA_OPTIONS

EPILOG = """\
  vipd userdata --vip 10.0.1.100                     the address on every node, for 'vipd host --address-mode static'
  vipd userdata --vip 10.0.1.100 --os ubuntu
  vipd userdata --vip 10.0.1.100 --option 2          without vipd: mapped once at boot, with the limits that it tells
  vipd userdata --vip 10.0.1.100 --option 2 --wheel vipd==0.1.0 --lease nodeport-vip

Prints EC2 user data for a launch template, and touches nothing. Every flag has a variable (named in brackets) and a key
in the --config file.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the table."""
    parser.usage = "%(prog)s --vip ADDR[/PREFIX] [--option 1|2] [--os NAME] [flag ...]"
    parser.epilog = EPILOG
    add_options(parser, (*USERDATA_OPTIONS, table.CONFIG))


def run(args: argparse.Namespace) -> int:
    """Print it; the exit code.  Raises ConfigError."""
    from vipd.config.settings_userdata import load_userdata
    from vipd.userdata.render import render

    text = render(load_userdata(args, os.environ))

    def tell() -> int:
        print(text, end="")
        return 0

    return common.piped(tell)
