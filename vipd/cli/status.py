"""``vipd status``: who holds the Leases."""

from __future__ import annotations

import argparse
import asyncio
import sys

from vipd.cli import common
from vipd.config import table
from vipd.errors import ConfigError

EPILOG = """\
  vipd status -A                                  every Lease of vipd in the cluster
  vipd status --lease web-vip -n prod             one Lease in detail, whoever wrote it
  vipd status --lease web-vip -o json | jq .holder
  vipd status --watch                             again and again, until Ctrl-C

Times with '~' compare the holder's clock with this machine's; --watch counts from when it saw a renewal itself.
Cells: '-' nothing, '?' not known. Needs the right to get, list and watch Leases; for members, to list Pods and Nodes.
Exit codes: 0 done, also where there is no Lease; 1 no Lease of the name given by --lease, or no API; 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.epilog = EPILOG
    what = parser.add_argument_group("what")
    what.add_argument("-A", "--all-namespaces", action="store_true", help="Leases of all namespaces")
    what.add_argument("--lease", metavar="NAME", help="this one alone, in detail, whoever wrote it")
    what.add_argument(
        "--all-leases", action="store_true", help="those that vipd never wrote, too (no kubelets' with -A)"
    )
    how = parser.add_argument_group("how")
    how.add_argument("-o", "--output", **common.choices(("table", "json", "yaml")), help="form [default: table]")
    how.add_argument("-w", "--watch", action="store_true", help="go on: show what changes until Ctrl-C")
    common.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Show them; the exit code.  Raises ConfigError and KubeError."""
    common.check_where(args)
    if args.all_namespaces and args.namespace is not None:
        raise ConfigError("flag --all-namespaces: it excludes --namespace; allowed: one of them")
    if args.lease is not None:
        common.checked(table.LEASE, "flag --lease", args.lease)
        if args.all_namespaces:
            raise ConfigError("flag --lease: a Lease is in one namespace; allowed: --namespace, not --all-namespaces")
    try:
        return common.piped(lambda: asyncio.run(_run(args)))
    except KeyboardInterrupt:
        if args.watch:
            return 0
        raise


async def _run(args: argparse.Namespace) -> int:
    from vipd.kube.connect import connect
    from vipd.kube.namespace import default_namespace
    from vipd.operate.status import Output, Wanted, look, rendered
    from vipd.operate.watching import watch

    client = await connect(kubeconfig=args.kubeconfig, context=args.context)
    try:
        namespace = args.namespace or default_namespace(kubeconfig=args.kubeconfig, context=args.context)
        wanted = Wanted(
            namespace=None if args.all_namespaces else namespace,
            lease=args.lease or "",
            foreign=args.all_leases,
            output=Output(args.output),
        )
        if args.watch:
            await watch(client, wanted, sys.stdout, sys.stderr)
            return 0
        found = await look(client, wanted)
        print(rendered(found.statuses, wanted), end="")
        for note in found.notes if found.statuses else (wanted.nothing(),):
            common.complain(note)
        return 0
    finally:
        await client.close()
