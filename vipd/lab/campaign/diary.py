"""The diary of an episode that needs an explanation: everything the lab saw, in one order, with the times of the logs.

Written beside the logs of the members, so that what was sent, what was granted and what was logged can be laid side by
side.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from vipd.lab.campaign.verdict import EpisodeResult
from vipd.lab.stage import Stage
from vipd.lab.vpc import boottime

BEFORE_S = 2.0

_Entry = tuple[float, str]


def write_diary(stage: Stage, result: EpisodeResult, acts: list[_Entry]) -> Path:
    """The file, in the lab's folder; ``acts``: (at, what was done to the lab)."""
    path = stage.lab.folder / f"episode-{result.episode}.txt"
    since = stage.fault_at - BEFORE_S
    entries = sorted(entry for entry in itertools.chain(acts, _entries(stage)) if entry[0] >= since)
    to_wall_s = time.time() - boottime()
    lines = [f"episode {result.episode}: {'; '.join(result.faults)}", f"verdict: {result.reason or 'ok'}", ""]
    for at, text in entries:
        wall = datetime.fromtimestamp(at + to_wall_s, UTC).isoformat(timespec="milliseconds")
        lines.append(f"{wall[11:23]}  {at - stage.fault_at:9.3f} s  {text}")
    path.write_text("\n".join(lines) + "\n")
    return path


def _entries(stage: Stage) -> Iterator[_Entry]:
    lab = stage.lab
    names = {node.identity: f"node {name}" for name, node in lab.nodes.items()}
    for _, run in itertools.groupby(lab.api.lease_writes, lambda w: (w.holder, w.transitions, w.annotations, w.verb)):
        writes = list(run)
        w = writes[0]
        told = ", ".join(f"{key.removeprefix('vipd.io/')}={value}" for key, value in sorted(w.annotations.items()))
        holder = names.get(w.holder, w.holder or "nobody")
        yield w.at, f"Lease: {w.verb or 'the lab'} by {w.user}: {holder}, transitions {w.transitions}; {told}"
        if len(writes) > 1:
            pause_s = max(later.at - one.at for one, later in itertools.pairwise(writes))
            last = f"Lease: the last of {len(writes) - 1} renewals without a change, {pause_s:.2f} s apart at most"
            yield writes[-1].at, last
    for call in lab.ec2.log:
        yield call.started_at, f"EC2: {call.action} by {call.caller} begins"
        yield call.ended_at, f"EC2: {call.action} by {call.caller} for {call.eni}: {call.outcome}"
    for remap in lab.vpc.delivered:
        yield remap.at, f"VPC: delivers {remap.address} to {lab.node_of(remap.eni) or 'nobody'} (by {remap.by})"
    for bearing in lab.observer.bearings:
        yield bearing.since, f"kernel: node {bearing.node} bears {bearing.address}"
        if bearing.until is not None:
            yield bearing.until, f"kernel: node {bearing.node} no longer bears {bearing.address}"
    for a in lab.observer.announcements:
        yield a.at, f"wire: node {a.node} announces {a.address} ({a.kind})"
    for vip, log in lab.probes.items():
        for answerer, sent in itertools.groupby(log.between(stage.fault_at - BEFORE_S, boottime()), lambda p: p.who):
            probes = list(sent)
            yield probes[0].sent_at, f"probes: {len(probes)} to {vip} answered by {answerer or 'nobody'}"
