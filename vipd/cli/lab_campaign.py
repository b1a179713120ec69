"""``vipd lab campaign``: its flags, and what is done with its records."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vipd.config.option import quoted
from vipd.errors import ConfigError

if TYPE_CHECKING:
    from vipd.lab.campaign.verdict import EpisodeResult

MINUTES = (0.1, 1440.0)
SEED_MAX = 2**32 - 1
STEPS_MAX = 100_000
DESCRIPTION = """\
Plays every fault of the lab once, then random pairs of them, on running vipd processes under probe traffic.
After each step one node has to serve and the others to stand by, within the Lease duration, one EC2 call and 20 s
(and up to 10 s for a vipd that has to start); judged are two owners, acts of a member that the Lease does not name or
that has offered it, addresses or mappings left behind, and processes that end by themselves.
Exit code 1 when any of these was found.  The seed decides faults, targets and times, not what the machine does.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that no other action has."""
    parser.description = DESCRIPTION
    parser.add_argument("--minutes", default="8", metavar="N", help="no step begins later than this, 0.1 to 1440 (8)")
    parser.add_argument("--seed", default="1", metavar="S", help=f"of the plan, 0 to {SEED_MAX} (1)")
    parser.add_argument("--only", metavar="STEP", help="this step of the plan alone, over and over")


def check(args: argparse.Namespace) -> None:
    """Turn texts into numbers.  Raises ConfigError."""
    args.minutes = _number(args.minutes, "--minutes", whole=False, low=MINUTES[0], high=MINUTES[1])
    args.seed = int(_number(args.seed, "--seed", whole=True, low=0, high=SEED_MAX))
    if args.only is not None:
        args.only = int(_number(args.only, "--only", whole=True, low=1, high=STEPS_MAX))


def _number(text: str, flag: str, *, whole: bool, low: float, high: float) -> float:
    allowed = f"allowed are {'whole ' if whole else ''}numbers from {low:g} to {high:.0f}"
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        raise ConfigError(f"{flag} {quoted(text)}: {allowed}") from None
    if not low <= value <= high:
        raise ConfigError(f"{flag} {quoted(text)}: {allowed}")
    return value


async def play(args: argparse.Namespace, folder: Path) -> int:
    """The campaign with its report, also when it is interrupted; 1 when something was found."""
    from vipd.lab.campaign.campaign import Campaign, campaign_setting
    from vipd.lab.campaign.report import print_report, write_json_line

    families = tuple(int(digit) for digit in args.family)
    setting = campaign_setting(fabric=args.fabric, families=families, kube=args.kube)
    if args.duration_s is not None:
        setting = replace(setting, duration_s=args.duration_s)
    if args.ec2_s is not None:
        setting = replace(setting, ec2_s=args.ec2_s)
    if args.fence is not None:
        setting = replace(setting, arguments=(*setting.arguments, "--fence", args.fence))
    results: list[EpisodeResult] = []
    with ExitStack() as stack:
        out = stack.enter_context(args.json.open("w")) if args.json else None

        def take(result: EpisodeResult) -> None:
            results.append(result)
            _tell(_sentence(result))
            if out is not None:
                write_json_line(out, result)

        campaign = Campaign(
            setting, seed=args.seed, seconds=args.minutes * 60, folder=folder, tell=_tell, only=args.only
        )
        try:
            await campaign.run(take)
        finally:
            print_report(results, again=_command(args))
    return 0 if results and all(result.ok for result in results) else 1


def _sentence(result: EpisodeResult) -> str:
    verdict = "ok" if result.ok else f"FOUND: {result.reason}"
    notes = "".join(f"; {note}" for note in result.notes)
    settled = "" if result.converged_s is None else f", converged after {result.converged_s:.1f} s"
    return f"  lost {result.lost} of {result.sent}, gap {result.gap_ms:.0f} ms{settled}, {verdict}{notes}"


def _command(args: argparse.Namespace) -> str:
    """What plays the same plan."""
    given = [("--lease-duration", args.lease_duration), ("--ec2-latency", args.ec2_latency), ("--fence", args.fence)]
    words = ["vipd lab campaign --seed", str(args.seed), *(f"{flag} {value}" for flag, value in given if value)]
    words += [f"--kube {args.kube}"] if args.kube != "embedded" else []
    words += [f"--family {args.family}"] if args.family != "4" else []
    return " ".join([*words, *([f"--fabric {args.fabric}"] if args.fabric != "vpc" else [])])


def _tell(text: str) -> None:
    print(text, flush=True)
