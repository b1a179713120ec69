"""``vipd status`` tells who holds each Lease, trusts no clock further than it says, and goes on through an outage."""

from __future__ import annotations

import asyncio
import io
import json
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import Raw, RunningApi, lease
from commands import ended, vipd
from lease_players import ENI_A, VIP, A, B, Players, put_node, put_pod, request_text

from vipd.core.annotations import REQUEST
from vipd.errors import KubeError
from vipd.kube.codec import format_micro_time, lease_view
from vipd.operate.document import document
from vipd.operate.lease_status import LeaseState, LeaseStatus, lease_status
from vipd.operate.status import Output, Wanted, look, rendered
from vipd.operate.tables import detail, duration, table
from vipd.operate.watching import watch

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
USER = "system:serviceaccount:default:vipd"
DEFAULT = Wanted("default")
ONE = Wanted("default", lease="web-vip")
KEYS = (
    "namespace name vipd vips state holder last_holder transitions reason age_s renewed_s_ago expires_in_s counted_by "
    "skew_s acquire_time renew_time duration_s interval_s enis moved fence priority incarnation shared_eni offer "
    "request members uid resource_version"
)


@pytest.fixture
def players(client: Any) -> Players:
    return Players(client)


def held(*, renewed: timedelta, wall: datetime = NOW, holder: str = "kube", **spec: Any) -> LeaseStatus:
    """A foreign holder's Lease of 15 s, renewed that long before NOW."""
    times = {"renewTime": format_micro_time(NOW - renewed), "acquireTime": format_micro_time(NOW - renewed)}
    body = lease("web-vip", version="7", uid="u", holderIdentity=holder, leaseDurationSeconds=15, **times, **spec)
    return lease_status(lease_view(body), (), wall=wall)


def cells(statuses: tuple[LeaseStatus, ...]) -> list[dict[str, str]]:
    """The table's rows by their headers."""
    header, *rows = [line.split() for line in table(statuses)]
    return [dict(zip(header, row, strict=True)) for row in rows]


# -------------------------------------------------------------------------------- one reading


async def test_a_held_lease_is_one_row(api: RunningApi, players: Players, client: Any) -> None:
    put_pod(api, "web-0", "active")
    put_pod(api, "web-1", "standby")
    await players.begin(why="lease-expired")
    found = await look(client, DEFAULT)
    [row] = cells(found.statuses)
    assert re.fullmatch(r"~(\d\.\d|1[0-5])s", row.pop("EXPIRES"))
    assert row.pop("AGE").endswith("s")
    assert row == {
        "NAMESPACE": "default",
        "LEASE": "web-vip",
        "VIPS": VIP,
        "HOLDER": A,
        "STATE": "held",
        "TRANSITIONS": "4",
        "REASON": "lease-expired",
        "HANDOVER": "-",
        "MEMBERS": "active:1,standby:1",
    }
    assert found.notes == ()


async def test_each_step_of_a_handover_is_told(players: Players, client: Any) -> None:
    async def told() -> tuple[str, str]:
        [row] = cells((await look(client, DEFAULT)).statuses)
        return row["STATE"], row["HANDOVER"]

    view = await players.begin()
    await players.store.annotate(view, {REQUEST: request_text(view, to=B)}, timeout_s=2)
    assert await told() == ("held", f"requested:{B}(eve@laptop)")
    offered = await players.offer(await players.seen())
    assert await told() == ("handing-over", "offered:any(requested)")
    await players.take(offered)
    assert await told() == ("held", "moving")
    await players.moved(await players.seen())
    assert await told() == ("held", "-")


async def test_a_released_lease_tells_who_held_it_last_and_its_vips(players: Players, client: Any) -> None:
    await players.begin()
    await players.release()
    [status] = (await look(client, DEFAULT)).statuses
    found = document(status)
    assert (found["state"], found["holder"], found["last_holder"], found["vips"]) == ("free", None, A, [VIP])
    assert (found["expires_in_s"], found["age_s"]) == (None, None)
    assert any(line.endswith(f"nobody (last: {A})") for line in detail(status))


async def test_leases_of_others_are_shown_only_when_asked_for(
    api: RunningApi, raw: Raw, players: Players, client: Any
) -> None:
    await players.begin()
    await raw("POST", "leases", lease("kube-scheduler", holderIdentity="kube", leaseDurationSeconds=15))
    managed = lease("released", holderIdentity="")
    await raw("POST", "leases", managed)
    node = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    await raw("POST", node, {**lease("node-a", holderIdentity="node-a"), "metadata": {"name": "node-a"}})

    async def names(wanted: Wanted) -> list[str]:
        return [status.name for status in (await look(client, wanted)).statuses]

    assert await names(Wanted("default")) == await names(Wanted(None)) == ["web-vip"]
    assert await names(Wanted(None, foreign=True)) == ["kube-scheduler", "released", "web-vip"]
    assert await names(Wanted("kube-node-lease", foreign=True)) == ["node-a"]
    [status] = (await look(client, Wanted("default", lease="kube-scheduler"))).statuses
    assert "vipd         no: never written by vipd" in detail(status)
    assert document(status)["vipd"] is False


def test_what_vipd_wrote_without_annotations_is_known_by_its_manager() -> None:
    body = lease("web-vip", version="7", uid="u", holderIdentity="")
    assert not lease_status(lease_view(body), (), wall=NOW).ours
    body["metadata"]["managedFields"] = [{"manager": "vipd", "operation": "Update"}, "garbage"]
    assert lease_status(lease_view(body), (), wall=NOW).ours


async def test_a_lease_that_is_not_there_is_an_error_only_by_name(client: Any) -> None:
    assert (await look(client, DEFAULT)).statuses == ()
    with pytest.raises(KubeError, match='There is no Lease "web-vip" in the namespace default'):
        await look(client, ONE)


async def test_who_may_not_list_pods_sees_the_leases(api: RunningApi, players: Players, client: Any) -> None:
    await players.begin()
    api.access.rights[USER] = {("*", "leases")}
    found = await look(client, DEFAULT)
    [row] = cells(found.statuses)
    assert row["MEMBERS"] == "?"
    assert document(found.statuses[0])["members"] is None
    assert [note.partition(" HTTP 403")[0] for note in found.notes] == [
        "members are not known: Pods cannot be listed:",
        "members are not known: Nodes cannot be listed:",
    ]


async def test_who_may_not_list_nodes_sees_members_that_are_pods(
    api: RunningApi, players: Players, client: Any
) -> None:
    await players.begin()
    put_pod(api, "web-0", "active")
    api.access.rights[USER] = {("*", "leases"), ("list", "pods")}
    found = await look(client, DEFAULT)
    assert cells(found.statuses)[0]["MEMBERS"] == "active:1"
    assert found.notes == ()


async def test_who_may_not_list_leases_is_told_so(api: RunningApi, client: Any) -> None:
    api.access.rights[USER] = {("list", "pods")}
    with pytest.raises(KubeError, match="403"):
        await look(client, DEFAULT)


async def test_members_are_those_of_the_lease_and_its_namespace(api: RunningApi, players: Players, client: Any) -> None:
    await players.begin()
    identity = put_pod(api, "web-0", "active", spec={"nodeName": "node-a"})
    put_pod(api, "web-9", "standby", namespace="other")
    put_pod(api, "db-0", "active", lease="db-vip")
    put_node(api, "node-z", "fault")
    [status] = (await look(client, Wanted(None))).statuses
    assert document(status)["members"] == [
        {
            "kind": "Pod",
            "namespace": "default",
            "name": "web-0",
            "node": "node-a",
            "identity": identity,
            "role": "active",
            "leaving": False,
        },
        {
            "kind": "Node",
            "namespace": None,
            "name": "node-z",
            "node": "node-z",
            "identity": "node-z",
            "role": "fault",
            "leaving": False,
        },
    ]


# ---------------------------------------------------------------------------------- the clocks


def test_the_expiry_is_an_estimate_by_the_holders_clock() -> None:
    status = held(renewed=timedelta(seconds=4))
    assert (status.state, status.expires_in_s, status.renewed_s_ago) == (LeaseState.HELD, 11.0, 4.0)
    assert cells((status,))[0]["EXPIRES"] == "~11s"
    late = held(renewed=timedelta(seconds=20))
    assert (late.state, late.expires_in_s) == (LeaseState.EXPIRED, -5.0)
    assert cells((late,))[0]["EXPIRES"] == "~-5.0s"
    assert any("if the clocks agree" in line for line in detail(late))


@pytest.mark.parametrize(("ahead_s", "known"), [(0.9, True), (1.1, False), (600, False)])
def test_a_renewal_in_the_future_tells_no_expiry(ahead_s: float, known: bool) -> None:
    status = held(renewed=timedelta(seconds=-ahead_s))
    assert status.state is LeaseState.HELD
    assert (status.expires_in_s is not None) is known
    assert (status.skew_s == 0) is known
    assert any("in the future: the clocks" in line for line in detail(status)) is not known


def test_who_watches_counts_without_the_clocks() -> None:
    view = held(renewed=timedelta(hours=-5)).view
    status = lease_status(view, (), wall=NOW, seen_s_ago=4.0)
    assert (status.expires_in_s, status.skew_s, status.counted_by) == (11.0, 0.0, "watch")
    assert cells((status,))[0]["EXPIRES"] == "11s"
    assert lease_status(view, (), wall=NOW, seen_s_ago=15.1).state is LeaseState.EXPIRED


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0s"),
        (9.94, "9.9s"),
        (10, "10s"),
        (119, "119s"),
        (150, "2m30s"),
        (3600, "60m"),
        (4 * 3600 + 120, "4h2m"),
        (30 * 3600, "30h"),
        (49 * 3600, "2d1h"),
        (300 * 86_400, "300d"),
    ],
)
def test_lengths_of_time_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --------------------------------------------------------------------------------------- forms


async def test_json_and_yaml_have_the_same_stable_keys(players: Players, client: Any) -> None:
    await players.begin()
    statuses = (await look(client, DEFAULT)).statuses
    as_json = json.loads(rendered(statuses, replace(DEFAULT, output=Output.JSON)))
    assert yaml.safe_load(rendered(statuses, replace(DEFAULT, output=Output.YAML))) == as_json
    [found] = as_json
    assert list(found) == KEYS.split()
    assert list(document(held(renewed=timedelta(0)))) == KEYS.split()
    assert json.loads(rendered(statuses, replace(ONE, output=Output.JSON))) == found
    assert (found["enis"], found["moved"], found["fence"], found["priority"]) == ([ENI_A], True, "eni", 100)
    assert rendered((), replace(DEFAULT, output=Output.JSON)) == "[]\n"


def test_names_of_others_cannot_write_to_the_terminal() -> None:
    status = held(renewed=timedelta(0), holder="\x1b[2J a\nb")
    assert cells((status,))[0]["HOLDER"] == "\N{REPLACEMENT CHARACTER}[2J_a\N{REPLACEMENT CHARACTER}b"
    assert not any("\x1b" in line or "\n" in line for line in detail(status))


async def test_one_lease_in_detail(api: RunningApi, players: Players, client: Any) -> None:
    put_pod(api, "web-0", "active", spec={"nodeName": "node-a"})
    view = await players.begin(moved=False)
    await players.store.annotate(view, {REQUEST: request_text(view)}, timeout_s=2)
    text = rendered((await look(client, ONE)).statuses, ONE)
    for line in (
        "Lease        default/web-vip",
        f"VIPs         {VIP}",
        "State        held",
        f"Holder       {A}",
        "Transitions  4",
        f"ENI          {ENI_A}: EC2 has not yet mapped the VIPs to it",
        "Fence        eni",
        "Offer        none",
        "Request      by eve@laptop, to any standby, priority 1000, id r1",
    ):
        assert line in text.splitlines()
    assert "taken for the reason lease-free" in text
    assert "by the holder's clock; every 1 s" in text
    assert text.splitlines()[-1].split()[:4] == ["active", "Pod", "web-0", "node-a"]


# --------------------------------------------------------------------------------------- watch


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@asynccontextmanager
async def watching(client: Any, wanted: Wanted, out: io.StringIO) -> AsyncIterator[io.StringIO]:
    """``--watch`` while the block runs; gives what went to stderr."""
    err = io.StringIO()
    task = asyncio.create_task(watch(client, wanted, out, err))
    try:
        yield err
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_watch_prints_one_document_for_each_change(players: Players, client: Any) -> None:
    await players.begin()
    out = io.StringIO()

    def holders() -> list[Any]:
        return [json.loads(line)["holder"] for line in out.getvalue().splitlines()]

    async with watching(client, replace(ONE, output=Output.JSON), out):
        await until(lambda: len(holders()) == 1)
        for _ in range(3):
            await players.renew()
        await players.take(await players.seen(), moved=True)
        await until(lambda: len(holders()) > 1)
    assert holders() == [A, B]


async def test_a_watch_counts_the_expiry_from_what_it_saw(client: Any) -> None:
    late = Players(client, duration_s=1, behind_s=3600)
    await late.begin()
    out = io.StringIO()

    def states() -> list[str]:
        return [json.loads(line)["state"] for line in out.getvalue().splitlines()]

    async with watching(client, replace(ONE, output=Output.JSON), out):
        await until(lambda: len(states()) > 1)
    assert states() == ["held", "expired"]


async def test_a_watch_sees_leases_come_and_go(players: Players, raw: Raw, client: Any) -> None:
    out = io.StringIO()

    def shown() -> list[list[str]]:
        documents = [d for d in yaml.safe_load_all(out.getvalue()) if d is not None]
        return [[found["name"] for found in document] for document in documents]

    async with watching(client, replace(DEFAULT, output=Output.YAML), out):
        await until(lambda: shown() == [[]])
        await players.begin()
        await until(lambda: shown() == [[], ["web-vip"]])
        await raw("DELETE", "leases/web-vip")
        await until(lambda: shown() == [[], ["web-vip"], []])


async def test_a_watch_goes_on_after_an_outage_and_takes_it_for_no_expiry(api: RunningApi, client: Any) -> None:
    players = Players(client, duration_s=2)
    await players.begin()
    out = io.StringIO()
    async with watching(client, replace(ONE, output=Output.JSON), out) as err:
        await until(lambda: bool(out.getvalue()))
        with api.faults.during(status=503, retry_after_s=1):
            api.break_watches()
            await until(lambda: "is away, this is what was seen last" in err.getvalue())
            await asyncio.sleep(2.5)
        await players.take(await players.seen(), moved=True)
        await until(lambda: len(out.getvalue().splitlines()) > 1)
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(one["holder"], one["state"]) for one in found] == [(A, "held"), (B, "held")]
    assert [line.partition(",")[0] for line in err.getvalue().splitlines()] == [
        "vipd: the Kubernetes API is away",
        "vipd: the Kubernetes API answers again",
    ]


async def test_a_stream_that_breaks_is_no_outage(api: RunningApi, players: Players, client: Any) -> None:
    await players.begin()
    out = io.StringIO()
    async with watching(client, replace(DEFAULT, output=Output.JSON), out) as err:
        await until(lambda: bool(out.getvalue()))
        api.break_watches()
        await players.take(await players.seen(), moved=True)
        await until(lambda: len(out.getvalue().splitlines()) == 2)
    assert err.getvalue() == ""


async def test_who_may_list_but_not_watch_is_told_so(api: RunningApi, players: Players, client: Any) -> None:
    await players.begin()
    api.access.rights[USER] = {("list", "*")}
    with pytest.raises(KubeError, match="403"):
        async with asyncio.timeout(10):
            await watch(client, DEFAULT, io.StringIO(), io.StringIO())


async def test_a_watch_survives_that_its_version_is_gone(api: RunningApi, players: Players, client: Any) -> None:
    await players.begin()
    out = io.StringIO()
    async with watching(client, replace(DEFAULT, output=Output.JSON), out):
        await until(lambda: bool(out.getvalue()))
        await players.take(await players.seen(), moved=True)
        api.compact()
        api.break_watches(gracefully=True)
        await until(lambda: len(out.getvalue().splitlines()) == 2)
        await players.take(await players.seen(), "web-2_uid-c", moved=True)
        await until(lambda: len(out.getvalue().splitlines()) == 3)


async def test_on_a_terminal_the_table_is_drawn_over_itself(players: Players, client: Any) -> None:
    await players.begin()
    out = Terminal()
    async with watching(client, DEFAULT, out):
        await until(lambda: out.getvalue().count("\x1b[H") >= 2)
    first, second = out.getvalue().split("\x1b[H")[1:3]
    assert out.getvalue().startswith("\x1b[2J\x1b[H")
    assert A in first
    assert A in second


async def test_a_watch_on_a_name_that_is_not_there_ends_at_once(client: Any) -> None:
    with pytest.raises(KubeError, match="There is no Lease"):
        await watch(client, ONE, io.StringIO(), io.StringIO())


# ------------------------------------------------------------------------------- as a process


async def test_as_a_command_it_knows_the_namespace_of_the_context(
    api: RunningApi, players: Players, tmp_path: Path
) -> None:
    await players.begin()
    config = api.kubeconfig(tmp_path / "here")
    code, out, err = await ended(await vipd(config, "status"))
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split()[:2] == ["NAMESPACE", "LEASE"]
    assert A in out
    elsewhere = api.kubeconfig(tmp_path / "elsewhere", namespace="prod")
    code, out, err = await ended(await vipd(elsewhere, "status"))
    assert (code, out) == (0, "")
    assert err == "vipd: No vipd Leases found in the namespace prod (--all-leases shows those of others).\n"
    code, out, err = await ended(await vipd(elsewhere, "status", "--lease", "web-vip", "-o", "json"))
    assert (code, out) == (1, "")
    assert err == 'vipd: error: There is no Lease "web-vip" in the namespace prod.\n'


async def test_as_a_command_a_watch_ends_in_order_on_ctrl_c(api: RunningApi, players: Players, tmp_path: Path) -> None:
    await players.begin()
    process = await vipd(api.kubeconfig(tmp_path / "kc"), "status", "--watch", "-o", "json", "-A")
    assert process.stdout is not None
    async with asyncio.timeout(15):
        first = json.loads(await process.stdout.readline())
    assert [found["holder"] for found in first] == [A]
    process.send_signal(signal.SIGINT)
    code, _, err = await ended(process)
    assert (code, err) == (0, "")
