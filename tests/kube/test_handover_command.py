"""``vipd handover`` asks, follows each step to its end, says why it was not done, and leaves no request behind."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_server import RunningApi
from commands import ended, vipd
from lease_players import ENI_B, VIP, A, B, Players, put_node, put_pod, request_text

from vipd.core.annotations import REQUEST
from vipd.core.model import OPERATOR_PRIORITY, Fence, LeaseView, Written
from vipd.errors import KubeError, TimeUp, VipdError
from vipd.kube.api import Api
from vipd.operate.handover import Handover, Wish
from vipd.operate.progress import Outcome, Result


@pytest.fixture
def players(client: Any) -> Players:
    return Players(client)


class Operator:
    """Runs handovers; ``lines`` is what was said."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.lines: list[str] = []
        self.handover: Handover | None = None

    async def __call__(self, **fields: Any) -> Outcome:
        wish = Wish(**({"namespace": "default", "lease": "web-vip", "by": "ops@laptop", "wait_s": 5.0} | fields))
        self.handover = Handover(self.client, wish, say=self.lines.append)
        async with asyncio.timeout(15):
            return await self.handover.run()


@pytest.fixture
def operator(client: Any) -> Operator:
    return Operator(client)


async def give_way(players: Players) -> None:
    """The whole handover: offered, taken, moved."""
    offered = await players.offer(await players.requested())
    await players.moved(await players.take(offered))


async def test_it_is_followed_from_the_request_to_the_move(
    api: RunningApi, players: Players, operator: Operator
) -> None:
    await players.begin()
    put_pod(api, "web-1", "standby")
    asked: list[Any] = []

    async def script(players: Players) -> None:
        view = await players.requested()
        asked.append(view.request)
        await players.moved(await players.take(await players.offer(view)))

    async with players.acting(script):
        outcome = await operator()
    assert (outcome.result, outcome.successor) == (Result.DONE, B)
    assert outcome.offered_s is not None
    assert outcome.taken_s is not None
    assert outcome.moved_s is not None
    assert 0 < outcome.offered_s <= outcome.taken_s <= outcome.moved_s
    assert operator.lines == [
        f"asked {A} to hand over to any ready standby",
        f"offered by {A} after {outcome.offered_s:.2f} s",
        f"taken by {B} after {outcome.taken_s:.2f} s",
        f"moved to {ENI_B} after {outcome.moved_s:.2f} s",
    ]
    assert outcome.reason == f"{VIP}: now held by {B} (was {A}), {outcome.moved_s:.2f} s"
    [request] = asked
    assert operator.handover is not None
    assert (request.holder, request.transitions, request.to) == (A, 4, "")
    assert (request.by, request.priority, request.id) == (
        "ops@laptop",
        OPERATOR_PRIORITY,
        operator.handover.request_id,
    )
    assert (await players.seen()).request is None


async def test_without_an_eni_it_is_done_once_it_is_taken(api: RunningApi, client: Any, operator: Operator) -> None:
    players = Players(client, fence=Fence.LEASE)
    await players.begin(eni="")
    put_node(api, "node-b", "standby")

    async def script(players: Players) -> None:
        await players.take(await players.offer(await players.requested()), "node-b", eni="", moved=True)

    async with players.acting(script):
        outcome = await operator(to="node-b")
    assert (outcome.result, outcome.successor, outcome.moved_s) == (Result.DONE, "node-b", None)


async def test_renewals_in_between_are_no_obstacle(api: RunningApi, players: Players, operator: Operator) -> None:
    await players.begin()
    put_pod(api, "web-1", "standby")
    done = asyncio.Event()

    async def renewing(players: Players) -> None:
        while not done.is_set():
            await try_renewal(players)

    async def script(players: Players) -> None:
        await players.requested()
        done.set()
        await asyncio.sleep(0.2)
        await players.moved(await players.take(await players.offer(await players.seen())))

    async with players.acting(renewing), players.acting(script):
        outcome = await operator()
    assert outcome.result is Result.DONE


async def try_renewal(players: Players) -> None:
    """A renewal that may meet the operator's write."""
    base = await players.seen()
    assert base.tenure is not None
    await players.store.replace(base, players.draft(base.tenure, base), timeout_s=2)


async def test_an_answer_to_the_request_that_is_lost_is_found_by_reading(
    api: RunningApi, players: Players, operator: Operator
) -> None:
    await players.begin()
    put_pod(api, "web-1", "standby")
    api.faults.add(verbs={"patch"}, resources={"leases"}, drop=True, times=1)
    async with players.acting(give_way):
        outcome = await operator()
    assert outcome.result is Result.DONE
    assert sum(request.verb == "patch" for request in api.requests) == 1


async def test_an_offer_that_nobody_takes_is_told(api: RunningApi, players: Players, operator: Operator) -> None:
    await players.begin()
    put_pod(api, "web-1", "standby")

    async def script(players: Players) -> None:
        offered = await players.offer(await players.requested())
        await asyncio.sleep(0.1)
        await players.cancel(offered)

    async with players.acting(script):
        outcome = await operator()
    assert outcome.result is Result.NOT_TAKEN
    assert outcome.reason.startswith("nobody took it within 0.")
    assert outcome.reason.endswith(f"{A} holds it still")
    assert outcome.offered_s is not None
    assert outcome.taken_s is None


async def test_a_request_that_nobody_answers_is_taken_back(
    api: RunningApi, players: Players, operator: Operator
) -> None:
    await players.begin()
    put_pod(api, "web-1", "standby")
    outcome = await operator(wait_s=0.3)
    assert outcome.result is Result.TIME_UP
    assert outcome.reason == f"{A} has not offered it after 0.3 s; the request is taken back"
    view = await players.seen()
    assert (view.request, view.holder) == (None, A)


async def test_an_operator_who_stops_waiting_leaves_no_request(
    api: RunningApi, players: Players, operator: Operator
) -> None:
    await players.begin(moved=False)
    put_pod(api, "web-1", "standby")

    async def script(players: Players) -> None:
        await players.requested()
        assert operator.handover is not None
        operator.handover.stop()

    async with players.acting(script):
        outcome = await operator()
    assert outcome.result is Result.INTERRUPTED
    assert "before EC2 has mapped the VIPs to its own ENI; the request is taken back" in outcome.reason
    assert (await players.seen()).request is None


@pytest.mark.parametrize("step", ["offered", "taken"])
async def test_at_the_end_of_the_time_it_says_how_far_it_came(
    api: RunningApi, players: Players, operator: Operator, step: str
) -> None:
    await players.begin()
    put_pod(api, "web-1", "standby")

    async def script(players: Players) -> None:
        offered = await players.offer(await players.requested())
        if step == "taken":
            await players.take(offered)

    async with players.acting(script):
        outcome = await operator(wait_s=0.6)
    assert outcome.result is Result.TIME_UP
    told = {
        "offered": f"{A} offers it, and nobody has taken it yet after 0.6 s",
        "taken": f"{B} has taken it, but EC2 has not mapped the VIPs to its ENI yet after 0.6 s",
    }
    assert outcome.reason == told[step]


async def test_a_request_that_is_answered_while_it_is_taken_back_is_followed(
    api: RunningApi, players: Players, operator: Operator
) -> None:
    """The holder's offer comes between the read and the removal: the removal must not touch it."""
    await players.begin()
    put_pod(api, "web-1", "standby")

    async def script(players: Players) -> None:
        view = await players.requested()
        with api.faults.during(verbs={"watch"}, freeze=True):
            await players.moved(await players.take(await players.offer(view)))
            await asyncio.sleep(1)

    async with players.acting(script):
        outcome = await operator(wait_s=0.5)
    assert (outcome.result, outcome.successor) == (Result.DONE, B)


async def expired(players: Players, view: LeaseView) -> None:
    await players.take(view, why="lease-expired")


async def released(players: Players, view: LeaseView) -> None:
    await players.take(await players.release(), why="lease-free")


async def foreign(players: Players, view: LeaseView) -> None:
    raw = {"metadata": {"uid": view.uid}, "spec": {"holderIdentity": "kube", "leaseTransitions": 5}}
    reply = await Api(players.client).call(
        "PATCH",
        "/apis/coordination.k8s.io/v1/namespaces/default/leases/web-vip",
        timeout_s=2,
        body=raw,
        content_type="application/merge-patch+json",
    )
    assert reply.ok


async def another(players: Players, view: LeaseView) -> None:
    await players.take(await players.offer(view), "web-2_uid-c")


async def anew(players: Players, view: LeaseView) -> None:
    await players.take(view, A, why="own-earlier-run")


async def twice(players: Players, view: LeaseView) -> None:
    await players.take(await players.take(await players.offer(view)), "web-2_uid-c", why="lease-expired")


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (expired, f"{B} holds it now (lease-expired), not by this request"),
        (released, f"{B} holds it now (lease-free), not by this request"),
        (foreign, "kube, which is no vipd, holds it now, not by this request"),
        (another, "web-2_uid-c holds it now (offered), not by this request"),
        (anew, f"{A} began a new tenure (own-earlier-run), which ended the request"),
        (twice, f"{B} took it, but web-2_uid-c holds it now"),
    ],
)
async def test_a_lease_that_changes_hands_otherwise_is_told(
    api: RunningApi, players: Players, operator: Operator, act: Callable[..., Any], told: str
) -> None:
    await players.begin()
    put_pod(api, "web-1", "standby")

    async def script(players: Players) -> None:
        await act(players, await players.requested())

    async with players.acting(script):
        outcome = await operator(to=B if act is another else "", force=True)
    assert (outcome.result, outcome.reason) == (Result.OTHERWISE, told)


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        (None, f"{A} holds it still, and the request is gone without an offer"),
        ({"prio": 2000}, f"a request of eve@laptop has replaced this one; {A} holds it"),
    ],
)
async def test_a_request_that_goes_away_is_told(
    api: RunningApi, players: Players, operator: Operator, annotation: dict[str, Any] | None, told: str
) -> None:
    await players.begin()
    put_pod(api, "web-1", "standby")

    async def script(players: Players) -> None:
        view = await players.requested()
        text = None if annotation is None else request_text(view, **annotation)
        assert isinstance(await players.store.annotate(view, {REQUEST: text}, timeout_s=2), Written)

    async with players.acting(script):
        outcome = await operator()
    assert (outcome.result, outcome.reason) == (Result.DECLINED, told)


# ---------------------------------------------------------------------------------------- refusals


async def refused(operator: Operator, api: RunningApi, error: type[VipdError] = VipdError, **wish: Any) -> str:
    """What it says; nothing was written."""
    with pytest.raises(error) as caught:
        await operator(**wish)
    assert not [request for request in api.requests if request.verb == "patch" and request.status == 200]
    return str(caught.value)


async def test_a_lease_that_is_not_there_or_nobodys_or_not_vipds_is_refused(
    api: RunningApi, players: Players, operator: Operator
) -> None:
    named = "the Lease default/web-vip"
    assert await refused(operator, api, KubeError) == f"{named} does not exist"
    await players.begin()
    await players.release()
    assert await refused(operator, api) == f"nobody holds {named}: there is nothing to hand over"
    await players.take(await players.seen(), "kube")
    base = await players.seen()
    await players.store.annotate(base, {"vipd.io/tenure": "{}"}, timeout_s=2)
    api.requests.clear()
    assert await refused(operator, api) == f"kube holds {named}; it is no vipd and knows no handover"
    await players.store.annotate(await players.seen(), {"vipd.io/tenure": None}, timeout_s=2)
    api.requests.clear()
    assert await refused(operator, api) == f"{named} is not vipd's: vipd never wrote it"


async def test_a_holder_who_does_not_renew_is_not_asked(
    api: RunningApi, client: Any, players: Players, operator: Operator
) -> None:
    late = Players(client, behind_s=60)
    await late.begin(interval_s=0.2)
    put_pod(api, "web-1", "standby")
    told = await refused(operator, api)
    assert told.startswith(f"nobody holds the Lease default/web-vip: {A} does not renew it (not within 0.9 s")


async def test_a_holder_whose_clock_is_wrong_is_asked_once_a_renewal_is_seen(
    api: RunningApi, client: Any, operator: Operator
) -> None:
    late = Players(client, behind_s=60)
    await late.begin(interval_s=2.0)
    put_pod(api, "web-1", "standby")

    async def script(players: Players) -> None:
        await asyncio.sleep(0.3)
        await players.renew()
        await give_way(players)

    async with late.acting(script):
        outcome = await operator()
    assert outcome.result is Result.DONE


async def test_without_a_ready_standby_nothing_is_asked(api: RunningApi, players: Players, operator: Operator) -> None:
    await players.begin()
    assert await refused(operator, api) == (
        "no standby is ready: no Pod or Node bears its label; --force asks all the same"
    )
    put_pod(api, "web-1", "fault")
    put_pod(api, "done", "standby", status={"phase": "Succeeded"})
    put_pod(api, "elsewhere", "standby", lease="other")
    told = "no standby is ready: known are web-1 (fault); --force asks all the same"
    assert await refused(operator, api) == told
    assert await refused(operator, api, to="web-1") == ("web-1 is no ready standby: fault; --force asks all the same")
    assert await refused(operator, api, to="web-7") == (
        "'web-7' is no member of this Lease: known are web-1 (fault); --force asks all the same"
    )


async def test_force_asks_without_a_known_standby(api: RunningApi, players: Players, operator: Operator) -> None:
    await players.begin()
    async with players.acting(give_way):
        outcome = await operator(to=B, force=True)
    assert outcome.result is Result.DONE


async def test_a_candidate_is_known_by_pod_node_or_identity(
    api: RunningApi, players: Players, operator: Operator
) -> None:
    active = put_pod(api, "web-0", "active", spec={"nodeName": "node-a"})
    identity = put_pod(api, "web-1", "standby", spec={"nodeName": "node-b"})
    await players.begin(active)
    for wish in ("web-1", "node-b", identity):
        assert (await operator(to=wish, wait_s=0.1)).result is Result.TIME_UP
        assert operator.handover is not None
        assert operator.handover.asked_for == identity
    for wish in ("web-0", "node-a", active):
        with pytest.raises(VipdError, match="is the holder already"):
            await operator(to=wish)
    put_pod(api, "web-2", "standby", spec={"nodeName": "node-b"})
    with pytest.raises(VipdError, match=r"'node-b' may be any of web-1_.*, web-2_.*: name one of them"):
        await operator(to="node-b")


async def test_who_may_not_list_pods_may_ask_all_the_same_under_fence_eni(
    api: RunningApi, client: Any, operator: Operator
) -> None:
    rights = [("*", "leases")]
    api.access.rights["system:serviceaccount:default:vipd"] = set(rights)
    players = Players(client)
    await players.begin()
    async with players.acting(give_way):
        assert (await operator()).result is Result.DONE
    assert operator.lines[0].startswith(
        "members cannot be listed, so nobody knows whether a standby is ready: HTTP 403"
    )
    unfenced = Players(client, name="l2-vip", fence=Fence.LEASE)
    await unfenced.begin()
    with pytest.raises(VipdError, match="no ready standby is known, because members cannot be listed"):
        await operator(lease="l2-vip")


async def test_another_operators_request_stands(api: RunningApi, players: Players, operator: Operator) -> None:
    view = await players.begin()
    put_pod(api, "web-1", "standby")
    await players.store.annotate(view, {REQUEST: request_text(view)}, timeout_s=2)
    api.requests.clear()
    told = await refused(operator, api)
    assert told == f"eve@laptop has asked {A} already to hand the Lease default/web-vip over"
    async with players.acting(replaced):
        outcome = await operator(by="eve@laptop")
    assert outcome.result is Result.DONE


async def replaced(players: Players) -> None:
    """Answers a request that is not the one of before."""
    view = await players.until(lambda view: view.request is not None and view.request.id != "r1")
    await players.moved(await players.take(await players.offer(view)))


async def test_who_may_not_patch_is_told_the_rule(api: RunningApi, client: Any, operator: Operator) -> None:
    await Players(client).begin()
    put_pod(api, "web-1", "standby")
    verbs = [("get", "leases"), ("list", "leases"), ("watch", "leases"), ("list", "pods"), ("list", "nodes")]
    api.access.rights["system:serviceaccount:default:vipd"] = set(verbs)
    told = await refused(operator, api, KubeError)
    assert told.startswith("Not allowed to patch the Lease default/web-vip (HTTP 403")
    assert 'verbs: ["patch"]' in told


async def test_an_api_that_takes_no_write_in_time_is_told(
    api: RunningApi, players: Players, operator: Operator
) -> None:
    await players.begin()
    put_pod(api, "web-1", "standby")
    with api.faults.during(verbs={"patch"}, status=500):
        told = await refused(operator, api, TimeUp, wait_s=0.5)
    assert told.startswith("the request could not be written within 0.5 s; it may stand in the Lease all the same")


# ------------------------------------------------------------------------------------- as a process


async def renew_until_asked(players: Players) -> LeaseView:
    """A process takes its time to start, and asks nobody who does not renew."""
    while True:
        view = await players.seen()
        if view.request is not None:
            return view
        await try_renewal(players)
        await asyncio.sleep(0.2)


async def test_as_a_command_it_prints_each_step(api: RunningApi, players: Players, tmp_path: Path) -> None:
    standby = put_pod(api, "web-1", "standby")
    await players.begin()

    async def script(players: Players) -> None:
        view = await renew_until_asked(players)
        await players.moved(await players.take(await players.offer(view), standby))

    async with players.acting(script):
        code, out, err = await ended(
            await vipd(api.kubeconfig(tmp_path / "kc"), "handover", "web-vip", "--to", "web-1")
        )
    assert (code, err) == (0, "")
    asked, offered, taken, moved, last = out.splitlines()
    assert asked == f"asked {A} to hand over to {standby}"
    assert re.fullmatch(rf"offered by {A} after \d+\.\d\d s", offered)
    assert re.fullmatch(rf"taken by {standby} after \d+\.\d\d s", taken)
    assert re.fullmatch(rf"moved to {ENI_B} after \d+\.\d\d s", moved)
    assert re.fullmatch(rf"{VIP}: now held by {standby} \(was {A}\), \d+\.\d\d s", last)


async def test_as_json_it_prints_one_object(api: RunningApi, players: Players, tmp_path: Path) -> None:
    put_pod(api, "web-1", "standby")
    await players.begin()

    async def script(players: Players) -> None:
        offered = await players.offer(await renew_until_asked(players))
        await players.moved(await players.take(offered))

    config = api.kubeconfig(tmp_path / "kc")
    async with players.acting(script):
        code, out, err = await ended(await vipd(config, "handover", "web-vip", "-n", "default", "-o", "json"))
    assert (code, err) == (0, "")
    found = json.loads(out)
    times = [found.pop(key) for key in ("offered_s", "taken_s", "moved_s")]
    assert times == sorted(times)
    assert re.fullmatch("[0-9a-f]{12}", found.pop("id"))
    assert found == {
        "namespace": "default",
        "lease": "web-vip",
        "vips": [VIP],
        "from": A,
        "to": B,
        "asked_for": None,
        "result": "done",
        "reason": found["reason"],
    }
    assert found["reason"].startswith(f"{VIP}: now held by {B} (was {A})")
    code, out, err = await ended(await vipd(config, "handover", "nothing", "-o", "json"))
    assert (code, err) == (1, "vipd: error: the Lease default/nothing does not exist\n")
    assert json.loads(out) | {"id": ""} == {
        **dict.fromkeys(("from", "to", "asked_for", "offered_s", "taken_s", "moved_s")),
        "namespace": "default",
        "lease": "nothing",
        "vips": [],
        "id": "",
        "result": "refused",
        "reason": "the Lease default/nothing does not exist",
    }


@pytest.mark.parametrize(("interrupt", "code"), [(False, 3), (True, 130)])
async def test_as_a_command_it_takes_its_request_back(
    api: RunningApi, players: Players, tmp_path: Path, interrupt: bool, code: int
) -> None:
    put_pod(api, "web-1", "standby")
    await players.begin()
    wait = "30s" if interrupt else "500ms"
    process = await vipd(api.kubeconfig(tmp_path / "kc"), "handover", "web-vip", "--wait", wait)
    await renew_until_asked(players)
    if interrupt:
        process.send_signal(signal.SIGINT)
    ended_with, out, err = await ended(process)
    assert ended_with == code
    assert out == f"asked {A} to hand over to any ready standby\n"
    assert err.startswith("vipd: interrupted: " if interrupt else "vipd: error: ")
    assert err.endswith("; the request is taken back\n")
    assert (await players.seen()).request is None
