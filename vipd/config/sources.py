"""Gathers what was said about each option: flag beats environment beats file.

Unknown keys and variables are refused: a misspelt option that is silently ignored is found out at the next failover.
"""

from __future__ import annotations

import argparse
import os
import re
import stat
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from vipd.config.option import Option, Raw, did_you_mean, quoted, understand
from vipd.errors import ConfigError

T = TypeVar("T")

PREFIX = "VIPD_"
"""Of every variable."""

FILE_LIMIT = 1 << 20
"""Bytes: a configuration is a screenful; this stops /dev/zero."""

_SERVICE_LINKS = re.compile(r"VIPD_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_\w+)?)?)")
"""The kubelet puts such variables into every pod of a namespace that has a Service named vipd or vipd-... ."""


class Given:
    """What was said, looked up by option."""

    def __init__(self, raws: Mapping[str, Raw]) -> None:
        self._raws = raws

    def all(self, option: Option[T]) -> tuple[T, ...]:
        """Every value; empty where nothing was said.  Raises ConfigError."""
        raw = self._raws.get(option.name)
        return () if raw is None else understand(option, raw)

    def one(self, option: Option[T], default: T) -> T:
        """The value (the last one given), or the default.  Raises ConfigError."""
        return (*self.all(option)[-1:], default)[0]

    def origin(self, name: str) -> str:
        """Who said it, for errors about values that do not go together."""
        raw = self._raws.get(name)
        return raw.origin if raw is not None else f"--{name} (by default)"


def gather(
    flags: argparse.Namespace,
    environ: Mapping[str, str],
    options: Sequence[Option[Any]],
    config: Option[str],
    *,
    others: Sequence[Option[Any]] = (),
) -> Given:
    """Everything that was said.  Raises ConfigError for unknown variables and keys and for an unreadable file.

    ``others``: options of other commands.  The containers of a pod may share variables and the file, so what is meant
    for others is passed over there.
    """
    from_flags = _from_flags(flags, [*options, config])
    own = {option.name for option in options}
    foreign = [option for option in others if option.name not in own]
    from_environ = _from_environ(environ, [*options, config], foreign)
    told = Given({**from_environ, **from_flags})
    from_file: dict[str, Raw] = {}
    for path in told.all(config)[-1:]:
        from_file = _from_file(path, told.origin(config.name), options, foreign)
    return Given({**from_file, **from_environ, **from_flags})


def _from_flags(flags: argparse.Namespace, options: Sequence[Option[Any]]) -> dict[str, Raw]:
    said: dict[str, Raw] = {}
    for option in options:
        texts = getattr(flags, option.name, None)
        if texts is not None:
            if len(texts) > 1 and not option.repeatable:
                raise ConfigError(f"flag {option.flag}: given {len(texts)} times; allowed: once")
            # Of the value "--" the argparse of Python 3.11 makes an empty list.
            said[option.name] = Raw(f"flag {option.flag}", tuple(t if isinstance(t, str) else "--" for t in texts))
    return said


def _from_environ(
    environ: Mapping[str, str], options: Sequence[Option[Any]], foreign: Sequence[Option[Any]]
) -> dict[str, Raw]:
    known = {option.variable: option for option in options}
    passed_over = {option.variable for option in foreign}
    said: dict[str, Raw] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in passed_over or _SERVICE_LINKS.fullmatch(variable):
            continue
        option = known.get(variable)
        if option is None:
            hint = did_you_mean(variable, known, prefix=PREFIX)
            raise ConfigError(f"variable {quoted(variable)}: unknown{hint or '; known: ' + ', '.join(sorted(known))}")
        # Manifests and templates leave variables empty to say nothing.
        if text.strip():
            said[option.name] = Raw(f"variable {variable}", (text,))
    return said


def _from_file(
    path: str, origin: str, options: Sequence[Option[Any]], foreign: Sequence[Option[Any]]
) -> dict[str, Raw]:
    known = {option.name: option for option in options}
    passed_over = {option.name for option in foreign}
    said: dict[str, Raw] = {}
    document = _read_yaml(path, origin)
    path = _shown(path)
    for key, value in document.items():
        if key in passed_over:
            continue
        option = known.get(key) if isinstance(key, str) else None
        if option is None:
            hint = did_you_mean(str(key).replace("_", "-"), known)
            raise ConfigError(f"file {path} key {quoted(str(key))}: unknown{hint or '; known: ' + ', '.join(known)}")
        said[option.name] = Raw(f"file {path} key {key}", _texts(option, value, f"file {path} key {key}"))
    return said


def _texts(option: Option[Any], value: object, origin: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and option.repeatable and all(isinstance(item, str) for item in value):
        return tuple(value)
    shape = "one value or a plain list of values" if option.repeatable else "one value"
    raise ConfigError(f"{origin}: must be {shape}; allowed: {option.allowed}")


def _read_yaml(path: str, origin: str) -> dict[Any, Any]:
    """The file as a mapping of texts.  Scalars are not interpreted: YAML 1.1 would read ``listen: off`` as false."""
    import yaml

    shown = _shown(path)
    try:
        data = _read_file(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{origin}: cannot read {quoted(path)}: {why}; allowed: a readable YAML file") from error
    if len(data) > FILE_LIMIT:
        raise ConfigError(f"{origin}: {shown} is too large; allowed: at most {FILE_LIMIT} bytes")
    try:
        document = yaml.load(data.decode(), Loader=_loader(yaml))
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        # PyYAML raises the bare ones for "\UFFFFFFFF", which is no character, and for a version of 5000 digits.
        raise ConfigError(
            f"file {shown}: not valid: {_problem(error)}; allowed: a YAML mapping of option names to values"
        ) from error
    if document is None or document == "":
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"file {shown}: not a mapping; allowed: a YAML mapping of option names to values")
    return document


def _shown(path: str) -> str:
    """As it stands, unless that would break the one line of an error."""
    return path if path.isprintable() else quoted(path)


def _read_file(path: str) -> bytes:
    """At most one byte more than FILE_LIMIT.  Raises OSError, and ValueError for a path that cannot be one.

    A pipe that nobody writes to would never open, and could not be read again on SIGHUP.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        return file.read(FILE_LIMIT + 1)


def _problem(error: Exception) -> str:
    """PyYAML's complaint as one line, with the line of the file where it knows that."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
    return quoted(str(problem)) + (f" in line {mark.line + 1}" if mark is not None else "")


def _loader(yaml: Any) -> Any:
    """A loader that keeps scalars as text and refuses duplicate keys, of which PyYAML takes the last in silence."""

    class Loader(yaml.BaseLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if key.value is not None and isinstance(key.value, str):
                    if key.value in seen:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"key {key.value} is there twice", key.start_mark
                        )
                    seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader
