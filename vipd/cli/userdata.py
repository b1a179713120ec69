"""``vipd userdata``: settings in, EC2 user data out.  Touches nothing and asks nobody."""

from __future__ import annotations

import argparse
import os

from vipd.cli import common
from vipd.config import table_userdata
from vipd.config.flags import add_arguments as add_options
from vipd.config.settings_userdata import load_userdata

EPILOG = """\
Every flag has a variable (named in brackets) and a key in the --config file, named as the flag without '--'.
Flag beats variable beats file. Variables and keys of other commands are passed over, but for those that bear the name
of an option here.

  vipd userdata --vip 10.0.1.100/32 > user-data
  vipd userdata --vip 10.0.1.100/32 --os bottlerocket --bootstrap-image REGISTRY/PATH@sha256:...
  vipd userdata --vip 10.0.1.100/32 --option 2 --vipd-wheel vipd==0.1.0 --lease nodeport-vip \\
      --kubeconfig-role arn:aws:iam::111122223333:role/vipd --kubeconfig-cluster prod

Exit codes: 0 printed; 1 stdout cannot be written to; 2 wrong usage, or more than the 16 KiB that EC2 takes.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the table."""
    parser.usage = "%(prog)s --vip ADDR/PREFIX [--option 1|2] [--os OS] [flag ...]"
    parser.epilog = EPILOG
    add_options(parser, (*table_userdata.USERDATA_OPTIONS, table_userdata.CONFIG))


def run(args: argparse.Namespace) -> int:
    """Print the user data; the exit code.  Raises ConfigError before anything is printed."""
    from vipd.userdata import render

    text = render(load_userdata(args, os.environ))

    def show() -> int:
        print(text, end="")
        return 0

    return common.piped(show)
