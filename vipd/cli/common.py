"""What ``vipd status`` and ``vipd handover`` have in common: where the API is, and output that others may cut short."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from vipd.config import table
from vipd.config.option import Option, Raw, understand

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that kubectl has, too."""
    group = parser.add_argument_group("where")
    group.add_argument(
        "-n", "--namespace", metavar="NS", help="the namespace [default: the pod's own, or that of the context]"
    )
    group.add_argument("--kubeconfig", metavar="FILE", help="[default: the pod's ServiceAccount, KUBECONFIG]")
    group.add_argument("--context", metavar="NAME", help="a context of the kubeconfig [default: the current one]")


def checked(option: Option[T], origin: str, text: str) -> T:
    """One value, understood.  Raises ConfigError that names its origin."""
    return understand(option, Raw(origin, (text,)))[0]


def check_namespace(args: argparse.Namespace) -> None:
    """Raises ConfigError."""
    if args.namespace is not None:
        checked(table.NAMESPACE, "flag --namespace", args.namespace)


def piped(job: Callable[[], int]) -> int:
    """Run it; who reads our output may stop reading (``| head``), and may know less than all of Unicode."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    try:
        code = job()
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def choices(words: Sequence[Any]) -> dict[str, Any]:
    """For add_argument: one of these words."""
    return {"choices": [str(word) for word in words], "default": str(words[0])}


def complain(text: str) -> None:
    """A line on stderr that is no error of its own."""
    print(f"vipd: {text}", file=sys.stderr, flush=True)
