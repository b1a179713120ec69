"""What an option is: one row of the table that flags, variables, file keys and help are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Generic, TypeVar

from vipd.errors import ConfigError

T = TypeVar("T")

SHOWN = 80
"""Characters of a wrong value that an error repeats."""


@dataclass(frozen=True)
class Option(Generic[T]):
    """One setting, whatever it is told by."""

    name: str
    """The flag without its dashes, which is also the key in the file."""
    metavar: str
    help: str
    allowed: str
    """What a value may be; the end of every error about it."""
    parse: Callable[[str], T]
    """Raises ValueError, with what is wrong as its message (empty: the value is no such thing at all)."""
    default: str
    """For ``--help``: what holds when nobody says anything."""
    group: str
    repeatable: bool = False
    """May be given several times; a value may also be a list, separated by commas or blanks."""
    by_line: bool = False
    """Such a list is separated by line ends alone, since values have commas and blanks of their own."""
    boolean: bool = False
    """The flag alone says true, with ``no-`` before its name false; else the value is ``true`` or ``false``."""
    fields: tuple[str, ...] = ()
    """The fields of the settings it decides."""

    @property
    def flag(self) -> str:
        return f"--{self.name}"

    @property
    def opposite(self) -> str:
        """The flag that says false, where it is a boolean."""
        return f"--no-{self.name}"

    @property
    def variable(self) -> str:
        return "VIPD_" + self.name.upper().replace("-", "_")


@dataclass(frozen=True, slots=True)
class Raw:
    """What somebody said, not yet understood.  ``origin`` says who: a flag, a variable or a key of a file."""

    origin: str
    texts: tuple[str, ...]


def wrong(origin: str, value: str, problem: str, allowed: str) -> ConfigError:
    """The one form of "this value cannot be": where it came from, what it is, what is wrong, what is allowed."""
    return ConfigError(f"{origin}: {quoted(value)} {problem or 'is not possible'}; allowed: {allowed}")


def quoted(value: str) -> str:
    """The value as one readable line, however long or strange it is."""
    return repr(value if len(value) <= SHOWN else value[:SHOWN] + "...")


def did_you_mean(unknown: str, known: Iterable[str], *, prefix: str = "") -> str:
    """``; did you mean X?``, or nothing where no name is near.

    ``prefix``: what all names begin with.  It is not compared, because it would make any two of them near.
    """
    names = [name.removeprefix(prefix) for name in known]
    near = get_close_matches(unknown.removeprefix(prefix), names, n=1, cutoff=0.6)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def understand(option: Option[T], raw: Raw) -> tuple[T, ...]:
    """Every value of what was said.  Raises ConfigError that names its origin."""
    parts = [_split(option, text) if option.repeatable else [text] for text in raw.texts]
    if not parts or not all(parts):
        raise ConfigError(f"{raw.origin}: no value; allowed: {option.allowed}")
    return tuple(_one(option, raw.origin, text.strip()) for some in parts for text in some)


def _one(option: Option[T], origin: str, text: str) -> T:
    if not text:
        raise ConfigError(f"{origin}: no value; allowed: {option.allowed}")
    try:
        return option.parse(text)
    except ValueError as error:
        raise wrong(origin, text, str(error), option.allowed) from error


def _split(option: Option[T], text: str) -> list[str]:
    if option.by_line:
        return [line for line in text.split("\n") if line.strip()]
    return text.replace(",", " ").split()
