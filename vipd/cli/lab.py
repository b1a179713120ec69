"""``vipd lab``: the demo, the scenarios, and a lab to play with; all in a sandbox of namespaces."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TextIO

from vipd.cli import common, lab_campaign
from vipd.cli.lab_flags import require, require_writable, why_not
from vipd.config.option import did_you_mean, quoted
from vipd.errors import ConfigError
from vipd.lab.measure import Timeline
from vipd.lab.promise import Scenario
from vipd.lab.scenarios import SCENARIOS
from vipd.lab.setting import KUBES, Setting

ALL = "all"
EPILOG = """\
  vipd lab demo                                   a rollout, a lost node and an API outage, live
  vipd lab run node-loss sigterm --rounds 5       play scenarios and check what they promise; exit 1 if one is broken
  vipd lab run all --rounds 5 --json out.jsonl --plot out.svg
  vipd lab campaign --minutes 30 --seed 7         random faults and pairs of them; exit 1 if something was found
  vipd lab up                                     two nodes to play with
  vipd lab run sigterm --kube real                with a real kube-apiserver and etcd (make envtest)
  vipd lab scenarios                              what there is, and what each promises
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands and their flags."""
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    demo = actions.add_parser("demo", help="show it live: a rollout, a lost node, an API outage; table and timeline")
    run_ = actions.add_parser("run", help="play scenarios and check their promises")
    campaign = actions.add_parser("campaign", help="play random faults and pairs of them, and report what they did")
    up = actions.add_parser("up", help="keep a lab running and play with it by commands")
    listing = actions.add_parser("scenarios", help="list the scenarios with what each promises")
    which = f"names as 'vipd lab scenarios' lists, or {ALL}: each in which vipd can start with the flags given"
    run_.add_argument("scenario", nargs="+", metavar="SCENARIO", help=which)
    run_.add_argument("--rounds", type=int, default=1, metavar="N", help="rounds of each scenario, 1 to 10000 (1)")
    lab_campaign.add_arguments(campaign)
    for one in (demo, run_, campaign):
        what = "step" if one is campaign else "round"
        one.add_argument("--json", type=Path, metavar="FILE", help=f"write one JSON object a {what} to this file")
    for one in (demo, run_):
        one.add_argument("--plot", type=Path, metavar="FILE.svg|.png", help="draw the timelines of the last rounds")
    for one in (run_, campaign, up):
        one.add_argument("--lease-duration", metavar="SECONDS", help="Lease duration, whole seconds (3)")
        one.add_argument("--ec2-latency", metavar="SECONDS", help="how long an EC2 call takes (0.4)")
        one.add_argument(
            "--fence",
            choices=("eni", "lease"),
            help="fence for vipd (as the network has it, for which the promises are)",
        )
    for one in (campaign, up):
        one.add_argument("--family", choices=("4", "6", "46"), default="4", help="address families of the VIPs (4)")
        one.add_argument("--fabric", choices=("vpc", "bridge"), default="vpc", help="VPC, or a plain L2 segment (vpc)")
    for one in (demo, run_, campaign, up):
        one.add_argument(
            "--kube", choices=KUBES, default=KUBES[0], help="the lab's own Kubernetes API, or a real one (embedded)"
        )
        one.add_argument("--folder", type=Path, metavar="DIR", help="keep logs here (a new folder below the temp one)")
    listing.add_argument("-o", "--output", choices=("table", "json"), default="table", help="form of the list")


def run(args: argparse.Namespace) -> int:
    """Run the action; its exit code."""
    if args.action == "scenarios":
        return common.piped(lambda: _list(args.output))
    _check(args)
    scenarios = _chosen(args.scenario, args.duration_s, args.fence) if args.action == "run" else []
    _check_outputs(args)
    from vipd.lab import sandbox

    code = sandbox.enter(["lab", *args.argv])
    if code is not None:
        return code
    folder = args.folder or Path(tempfile.mkdtemp(prefix="vipd-lab-"))
    match args.action:
        case "demo":
            return _interruptible(_demo(args, folder))
        case "run":
            return _interruptible(_run(args, scenarios, folder))
        case "campaign":
            return _interruptible(lab_campaign.play(args, folder))
        case _:
            return _interruptible(_up(args, folder))


def _interruptible(job: Coroutine[Any, Any, int]) -> int:
    """Run to the end; Ctrl-C and SIGTERM cancel it, so that everything is taken down in order."""

    async def guarded() -> int:
        task = asyncio.create_task(job)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            print("\ninterrupted; the lab is taken down", flush=True)
            return 130

    return asyncio.run(guarded())


def _list(output: str) -> int:
    rows = [
        {"name": s.name, "summary": s.summary, "promise": s.promise.text, "fabric": s.setting.fabric}
        for s in SCENARIOS.values()
    ]
    if output == "json":
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        print(f"{row['name']:{width}}  {row['summary']}\n{'':{width}}  promised: {row['promise']}")
    return 0


def _chosen(names: list[str], duration_s: float | None, fence: str | None) -> list[Scenario]:
    """The scenarios of these names; of all, those in which vipd can start with these flags."""
    if names == [ALL]:
        return [s for s in SCENARIOS.values() if not why_not(s.setting, duration_s=duration_s, fence=fence)]
    for name in names:
        if name == ALL:
            raise ConfigError(f"scenario '{ALL}': stands alone; allowed: {ALL}, or names of scenarios")
        if name not in SCENARIOS:
            hint = did_you_mean(name, SCENARIOS) or f"; there are {', '.join(SCENARIOS)}, or {ALL}"
            raise ConfigError(f"scenario {quoted(name)}: unknown{hint}")
        why = why_not(SCENARIOS[name].setting, duration_s=duration_s, fence=fence)
        if why:
            raise ConfigError(f"scenario {name}: {why}")
    return [SCENARIOS[name] for name in names]


def _check(args: argparse.Namespace) -> None:
    """Bad values are told before a lab is built."""
    rounds = getattr(args, "rounds", 1)
    if not 1 <= rounds <= 10_000:
        raise ConfigError(f"--rounds {rounds}: allowed are 1 to 10000")
    plot = getattr(args, "plot", None)
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise ConfigError(f"--plot {plot}: allowed are files that end in .svg or .png")
    if args.kube == "real":
        from vipd.lab.controlplane.binaries import find

        find()
    args.duration_s = _seconds(args, "lease_duration", "--lease-duration", low=1, high=60, whole=True)
    args.ec2_s = _seconds(args, "ec2_latency", "--ec2-latency", low=0, high=30, whole=False)
    if args.action == "campaign":
        lab_campaign.check(args)
    if args.action in ("campaign", "up"):
        require(Setting(args.fabric), duration_s=args.duration_s, fence=args.fence)


def _check_outputs(args: argparse.Namespace) -> None:
    """Last, because it makes files."""
    for name in ("json", "plot"):
        path = getattr(args, name, None)
        if path is not None:
            require_writable(f"--{name}", path)


def _seconds(args: argparse.Namespace, key: str, flag: str, *, low: float, high: float, whole: bool) -> float | None:
    text = getattr(args, key, None)
    if text is None:
        return None
    allowed = f"allowed are {'whole ' if whole else ''}seconds from {low:g} to {high:g}"
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        raise ConfigError(f"{flag} {quoted(text)}: {allowed}") from None
    if not low <= value <= high or (whole and value != int(value)):
        raise ConfigError(f"{flag} {quoted(text)}: {allowed}")
    return value


async def _demo(args: argparse.Namespace, folder: Path) -> int:
    from vipd.lab.demo import demonstrate

    return _finish(await demonstrate(folder=folder, kube=args.kube), args)


async def _run(args: argparse.Namespace, scenarios: list[Scenario], folder: Path) -> int:
    from vipd.lab.report import write_json_line
    from vipd.lab.run import run_all, setting_for

    def wishes(scenario: Scenario) -> Setting:
        return setting_for(scenario, duration_s=args.duration_s, ec2_s=args.ec2_s, fence=args.fence, kube=args.kube)

    timelines: list[Timeline] = []
    out: TextIO | None = args.json.open("w") if args.json else None
    try:
        async for timeline in run_all(scenarios, rounds=args.rounds, wishes=wishes, folder=folder, tell=_tell):
            timelines.append(timeline)
            result = timeline.result
            verdict = "ok" if result.ok else f"BROKEN: {result.reason}"
            _tell(f"  round {result.round}: lost {result.lost} of {result.sent}, gap {result.gap_ms:.0f} ms, {verdict}")
            if out is not None:
                write_json_line(out, result)
    finally:
        if out is not None:
            out.close()
    args.json = None
    return _finish(timelines, args)


async def _up(args: argparse.Namespace, folder: Path) -> int:
    from vipd.lab.console import keep_up
    from vipd.lab.run import setting_for

    families = tuple(int(digit) for digit in args.family)
    scene = Scenario(
        "up", "", SCENARIOS["sigterm"].promise, SCENARIOS["sigterm"].act, Setting(args.fabric, families=families)
    )
    setting = setting_for(scene, duration_s=args.duration_s, ec2_s=args.ec2_s, fence=args.fence, kube=args.kube)
    await keep_up(setting, folder=folder)
    return 0


def _tell(text: str) -> None:
    print(text, flush=True)


def _finish(timelines: list[Timeline], args: argparse.Namespace) -> int:
    """Table, JSON, timeline; 1 when a promise was broken."""
    from vipd.lab.report import print_summary, write_json_line

    results = [timeline.result for timeline in timelines]
    if args.json is not None:
        with args.json.open("w") as out:
            for result in results:
                write_json_line(out, result)
    print_summary(results, {name: s.promise.text for name, s in SCENARIOS.items()})
    if args.plot is not None:
        from vipd.lab.plot import write_timeline

        last = {timeline.result.scenario: timeline for timeline in timelines}
        write_timeline(args.plot, list(last.values()))
        _tell(f"timeline: {args.plot}")
    return 0 if all(result.ok for result in results) else 1
