"""The command line: flags made from the table, and argparse with errors of the same form as all others."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from vipd.config.option import Option, did_you_mean, quoted
from vipd.errors import ConfigError

LONGEST = 1000
"""Characters of an error of argparse."""


def add_arguments(parser: argparse.ArgumentParser, options: Sequence[Option[Any]]) -> None:
    """One flag for each option, in groups, with its variable and default in the help."""
    groups: dict[str, Any] = {}
    for option in options:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        note = f"default: {option.default}; {option.variable}" if option.default else option.variable
        text = f"{option.help} [{note}]".replace("%", "%%")
        _add(groups[option.group], option, text)


def _add(group: Any, option: Option[Any], text: str) -> None:
    # Values stay text here: flags, variables and file keys are understood by the same parsers.
    kind = {"nargs": "?", "const": "true"} if option.boolean else {}
    group.add_argument(option.flag, dest=option.name, metavar=option.metavar, action="append", help=text, **kind)
    if option.boolean:
        group.add_argument(
            option.opposite, dest=option.name, action="append_const", const="false", help=argparse.SUPPRESS
        )


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ConfigError, of the same form as all others.  No abbreviations: they break scripts."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", _Help)
        super().__init__(**kwargs)

    def error(self, message: str) -> NoReturn:
        # Some of argparse's messages repeat the whole value.
        told = message if len(message) <= LONGEST else message[:LONGEST] + "..."
        raise ConfigError(f"{re.sub('^argument (?=--)', 'flag ', told)} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but the parser that meets something unknown says so itself: a subcommand knows its own flags."""
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            flags = [flag for action in self._actions for flag in action.option_strings]
            name = rest[0].split("=", 1)[0]
            what = "flag" if name.startswith("-") else "argument"
            self.error(f"{what} {quoted(name)}: unknown{did_you_mean(name, flags)}")
        return known, rest


class _Help(argparse.RawDescriptionHelpFormatter):
    """Flags in one column wide enough for most of them."""

    def __init__(self, prog: str, **kwargs: Any) -> None:
        super().__init__(prog, **{"max_help_position": 30, **kwargs})
