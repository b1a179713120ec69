"""``vipd handover``: a planned switchover."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import signal
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from vipd.cli import common
from vipd.cli.main import INTERRUPTED
from vipd.config import table
from vipd.config.option import Option
from vipd.config.values import Duration
from vipd.errors import TimeUp, VipdError

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

    from vipd.operate.handover import Handover
    from vipd.operate.progress import Outcome

WAIT = Option[float](
    name="wait",
    metavar="TIME",
    help="",
    allowed="0.1s to 1h, like 10, 10s or 500ms",
    parse=Duration(0.1, 3600),
    default="10s",
    group="",
)

EPILOG = """\
  vipd handover web-vip                           to any ready standby
  vipd handover web-vip -n prod --to web-1        to this Pod
  vipd handover web-vip -o json | jq .moved_s

The holder offers the Lease, a standby takes it and moves the VIPs; then it is done. CANDIDATE is the name of a Pod or
Node that bears the Lease's label, or an identity. Nothing is asked for where no standby is ready. A request that is not
answered in time, or that Ctrl-C interrupts, is taken back. Needs the right to get, list, watch and patch Leases, and to
list Pods and Nodes.
Exit codes: 0 done; 1 not done, the sentence says why; 2 wrong usage; 3 not done within --wait; 130 interrupted.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The argument and the flags."""
    parser.epilog = EPILOG
    parser.add_argument("lease", metavar="LEASE", help="the Lease")
    how = parser.add_argument_group("how")
    how.add_argument("--to", metavar="CANDIDATE", help="who is to take it [default: any ready standby]")
    how.add_argument("--wait", metavar="TIME", default=WAIT.default, help=f"how long [default: {WAIT.default}]")
    how.add_argument("--force", action="store_true", help="ask although no ready standby is known")
    how.add_argument("-o", "--output", **common.choices(("text", "json")), help="form [default: text]")
    common.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask, and follow it to its end; the exit code.  Raises ConfigError, and VipdError with why it was not done."""
    common.check_where(args)
    common.checked(table.LEASE, "argument LEASE", args.lease)
    args.wait_s = common.checked(WAIT, "flag --wait", args.wait)
    if args.to is not None:
        common.checked(table.IDENTITY, "flag --to", args.to)
    return common.piped(lambda: asyncio.run(_run(args)))


async def _run(args: argparse.Namespace) -> int:
    from vipd.operate.handover import Handover, Wish
    from vipd.operate.progress import Outcome, Result

    async with AsyncExitStack() as stack:
        try:
            client, namespace = await _connected(args, stack)
        except VipdError as error:
            _print_json(args, args.namespace, None, Outcome(Result.REFUSED, str(error)))
            raise
        wish = Wish(namespace, args.lease, by=_me(), to=args.to or "", wait_s=args.wait_s, force=args.force)
        handover = Handover(client, wish, say=_quiet if args.output == "json" else _say)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, handover.stop)
        try:
            outcome = await handover.run()
        except VipdError as error:
            result = Result.TIME_UP if isinstance(error, TimeUp) else Result.REFUSED
            _print_json(args, namespace, handover, Outcome(result, str(error)))
            raise type(error)(_clean(str(error))) from error
    _print_json(args, namespace, handover, outcome)
    if outcome.result is Result.DONE:
        if args.output != "json":
            _say(outcome.reason)
        return 0
    if outcome.result is Result.INTERRUPTED:
        common.complain(_clean(outcome.reason))
        return INTERRUPTED
    raise (TimeUp if outcome.result is Result.TIME_UP else VipdError)(_clean(outcome.reason))


async def _connected(args: argparse.Namespace, stack: AsyncExitStack) -> tuple[ApiClient, str]:
    """A client, and the namespace that is meant.  Raises KubeError."""
    from vipd.kube.connect import connect
    from vipd.kube.namespace import default_namespace

    client = await connect(kubeconfig=args.kubeconfig, context=args.context)
    stack.push_async_callback(client.close)
    return client, args.namespace or default_namespace(kubeconfig=args.kubeconfig, context=args.context)


def _print_json(args: argparse.Namespace, namespace: str | None, handover: Handover | None, outcome: Outcome) -> None:
    """``handover``: None where the API cannot be used, so that nothing is known."""
    if args.output != "json":
        return
    found: dict[str, Any] = {
        "namespace": namespace,
        "lease": args.lease,
        "vips": list(handover.vips) if handover else [],
        "from": (handover and handover.holder) or None,
        "to": outcome.successor or None,
        "asked_for": (handover and handover.asked_for) or None,
        "id": handover.request_id if handover else None,
        "offered_s": _rounded(outcome.offered_s),
        "taken_s": _rounded(outcome.taken_s),
        "moved_s": _rounded(outcome.moved_s),
        "result": outcome.result.value,
        "reason": outcome.reason,
    }
    print(json.dumps(found, indent=2), flush=True)


def _me() -> str:
    """Who asks, for people: no authentication."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # In a container, a uid may have no name.
        user = str(os.getuid())
    return "".join(char for char in f"{user}@{socket.gethostname()}" if char.isprintable())


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _say(line: str) -> None:
    """Identities come from whoever wrote them into the Lease."""
    print(_clean(line), flush=True)


def _clean(text: str) -> str:
    from vipd.operate.tables import clean

    return clean(text)


def _quiet(line: str) -> None:
    """Steps are no JSON; the object at the end tells them."""
