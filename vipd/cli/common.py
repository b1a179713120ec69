"""What ``vipd status`` and ``vipd handover`` have in common: where the API is, and output that others may cut short."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vipd.config import table
from vipd.config.option import Option, Raw, understand, wrong
from vipd.errors import ConfigError, VipdError

T = TypeVar("T")

UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""How a write to stdout fails, but for a reader that has gone."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that kubectl has, too."""
    group = parser.add_argument_group("where")
    group.add_argument(
        "-n", "--namespace", metavar="NS", help="the namespace [default: the pod's own, or that of the context]"
    )
    group.add_argument("--kubeconfig", metavar="FILE", help="[default: the pod's ServiceAccount, KUBECONFIG]")
    group.add_argument(
        "--context", metavar="NAME", help="a context of the kubeconfig, also in a pod [default: the current one]"
    )


def checked(option: Option[T], origin: str, text: str) -> T:
    """One value, understood.  Raises ConfigError that names its origin."""
    return understand(option, Raw(origin, (text,)))[0]


def check_where(args: argparse.Namespace) -> None:
    """Raises ConfigError for a namespace, kubeconfig or context that cannot be."""
    if args.namespace is not None:
        checked(table.NAMESPACE, "flag --namespace", args.namespace)
    if args.kubeconfig is not None:
        _check_kubeconfig(args.kubeconfig)
    if args.context is not None and not args.context.strip():
        raise ConfigError("flag --context: no value; allowed: the name of a context of the kubeconfig")


def _check_kubeconfig(text: str) -> None:
    origin, allowed = "flag --kubeconfig", "the path of a kubeconfig file"
    if not text.strip():
        raise ConfigError(f"{origin}: no value; allowed: {allowed}")
    path = Path(text).expanduser()
    if not path.is_file():
        raise wrong(origin, text, "is no file" if path.exists() else "does not exist", allowed)


def piped(job: Callable[[], int]) -> int:
    """Run what prints; who reads our output may stop reading (``| head``).

    Raises VipdError where stdout cannot be written to.
    """
    try:
        code = job()
        print(end="", flush=True)
    except BrokenPipeError:
        _forget_stdout()
        return 0
    except OSError as error:
        # An error of a file has its name.
        if error.errno not in UNWRITABLE or error.filename is not None:
            raise
        _forget_stdout()
        raise VipdError(f"cannot write to stdout: {error.strerror}") from error
    return code


def _forget_stdout() -> None:
    """The interpreter flushes once more at its end, and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def choices(words: Sequence[Any]) -> dict[str, Any]:
    """For add_argument: one of these words."""
    return {"choices": [str(word) for word in words], "default": str(words[0])}


def complain(text: str) -> None:
    """A line on stderr that is no error of its own."""
    print(f"vipd: {text}", file=sys.stderr, flush=True)
