"""What a round amounts to: two owners and gaps against slow counts by hand, and the phases of takeovers."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd.core.model import Address
from vipd.lab.ec2 import Call
from vipd.lab.measure import Away, Phases, Take, eni_phase_ms, following_phases, takeover_phases, two_owners_s
from vipd.lab.observer import Announcement, Bearing
from vipd.lab.probes import ProbeLog

VIP4, VIP6 = ip_address("10.0.1.100"), ip_address("fd00:10:0:1::100")
END = 20
OWN_PORTS = {"a": "a", "b": "b", "c": "c"}
ONE_PORT = {"a": "x", "b": "x", "c": "c"}


def bearing(node: str, since: float, until: float | None = None, address: Address = VIP4) -> Bearing:
    return Bearing(node, address, since, until)


# ---------------------------------------------------------------------------------------------- two owners


def test_on_a_plain_segment_two_bearers_are_two_owners_for_as_long_as_they_overlap() -> None:
    spells = [bearing("a", 0, 8), bearing("b", 5)]

    assert two_owners_s(spells, 0, END, delivered_to=None) == 3


def test_the_mapping_tells_apart_two_bearers_behind_their_own_enis() -> None:
    spells = [bearing("a", 0), bearing("b", 0)]

    assert two_owners_s(spells, 0, END, delivered_to=OWN_PORTS) == 0


def test_two_bearers_behind_one_eni_are_two_owners_only_while_the_mapping_names_it() -> None:
    spells = [bearing("a", 0), bearing("b", 0)]
    mapped = {VIP4: [(0, "x"), (5, "c"), (12, "x")]}

    assert two_owners_s(spells, 0, END, delivered_to=ONE_PORT) == END
    assert two_owners_s(spells, 0, END, delivered_to=ONE_PORT, mapped=mapped) == 5 + 8
    assert two_owners_s(spells, 0, END, delivered_to=ONE_PORT, mapped={VIP4: []}) == 0


def test_a_bearer_that_is_cut_off_is_no_owner() -> None:
    spells = [bearing("a", 0), bearing("b", 5)]

    assert two_owners_s(spells, 0, END, delivered_to=None, away=[Away("a", 4, 15)]) == 5
    assert two_owners_s(spells, 0, END, delivered_to=None, away=[Away("a", 7)]) == 2


def test_only_the_window_counts() -> None:
    spells = [bearing("a", 0), bearing("b", 0)]

    assert two_owners_s(spells, 5, 7, delivered_to=None) == 2
    assert two_owners_s(spells, 7, 5, delivered_to=None) == 0


def test_two_addresses_at_once_count_once_and_never_mix() -> None:
    both = [bearing(node, 0, 4, vip) for node in "ab" for vip in (VIP4, VIP6)]
    apart = [bearing("a", 0, 4, VIP4), bearing("b", 0, 4, VIP6)]

    assert two_owners_s(both, 0, END, delivered_to=None) == 4
    assert two_owners_s(apart, 0, END, delivered_to=None) == 0


def test_an_address_handed_over_without_a_pause_has_one_owner_at_a_time() -> None:
    assert two_owners_s([bearing("a", 0, 5), bearing("b", 5)], 0, END, delivered_to=None) == 0


moments = st.integers(0, END)
ends = st.none() | moments
nodes = st.sampled_from("abc")
bearing_lists = st.lists(st.builds(Bearing, nodes, st.sampled_from([VIP4, VIP6]), moments, ends), max_size=8)
away_lists = st.lists(st.builds(Away, nodes, moments, ends), max_size=3)
port_maps = st.none() | st.sampled_from([OWN_PORTS, ONE_PORT])
histories = st.lists(st.tuples(moments, st.sampled_from(["x", "c", "a", ""])), max_size=4).map(
    lambda found: sorted(found, key=lambda item: item[0])
)
mappings = st.none() | st.fixed_dictionaries({VIP4: histories, VIP6: histories})


def by_hand(
    bearings: list[Bearing],
    ports: dict[str, str] | None,
    mapped: dict[Address, list[tuple[int, str]]] | None,
    away: list[Away],
    start: int,
    end: int,
) -> int:
    """Second by second: all times are whole."""
    seconds = 0
    for second in range(start, end):
        cut_off = {x.node for x in away if x.since <= second and (x.until is None or second < x.until)}
        for vip in (VIP4, VIP6):
            here = [
                b.node
                for b in bearings
                if b.address == vip and b.since <= second and (b.until is None or second < b.until)
            ]
            reached = sorted(set(here) - cut_off)
            if ports is not None:
                owner = None if mapped is None else ([""] + [p for at, p in mapped[vip] if at <= second])[-1]
                behind = [ports[node] for node in reached]
                reached = [p for p in behind if behind.count(p) > 1 and owner in (None, p)]
            if len(reached) > 1:
                seconds += 1
                break
    return seconds


@given(bearing_lists, port_maps, mappings, away_lists, moments, moments)
def test_two_owners_agrees_with_a_count_by_hand(
    bearings: list[Bearing],
    ports: dict[str, str] | None,
    mapped: dict[Address, list[tuple[int, str]]] | None,
    away: list[Away],
    start: int,
    end: int,
) -> None:
    measured = two_owners_s(bearings, start, end, delivered_to=ports, mapped=mapped, away=away)

    assert measured == by_hand(bearings, ports, mapped, away, start, end)


# -------------------------------------------------------------------------------------------------- probes


def log_of(text: str, *, stalls: tuple[tuple[float, float], ...] = ()) -> ProbeLog:
    """A probe a second from 0 on: a letter is who answered it, "." is a lost one, " " one that was never sent."""
    log = ProbeLog("10.0.1.100")
    for second, who in enumerate(text):
        if who != " ":
            log.add(f"{second} {second}.0 {'- -' if who == '.' else f'{second}.5 {who}'}")
    for since, until in stalls:
        log.stalled(f"{since} {until}")
    return log


@pytest.mark.parametrize(
    ("text", "start", "end", "lost", "gap_s", "gap_from", "who"),
    [
        pytest.param("aaaaaaaaaa", 2, 3, 0, 1, 1, "aa", id="all answered: the interval"),
        pytest.param("aaa..bbbbb", 1, 10, 2, 3, 2, "ab", id="a takeover"),
        pytest.param("aa.b...cdd", 1, 10, 4, 4, 3, "ad", id="of two gaps the longer one"),
        pytest.param("aaaa......", 2, 10, 6, 7, 3, "aa", id="silent to the end"),
        pytest.param("..........", 2, 10, 8, 8, 2, "", id="never answered"),
        pytest.param("....bbbbbb", 2, 10, 2, 2, 2, "bb", id="first answer within the window"),
        pytest.param("a...bbbbbb", 2, 10, 2, 4, 0, "ab", id="the gap began before the window"),
        pytest.param("a.........bb", 8, 12, 2, 2, 8, "bb", id="what was answered long before does not count"),
        pytest.param("aaaaaaaaaa", 12, 15, 0, 6, 9, "aa", id="nothing was sent in the window"),
        pytest.param("", 0, 1, 0, 0, 0, "", id="an empty log"),
    ],
)
def test_a_window_is_summed_up(
    text: str, start: int, end: int, lost: int, gap_s: float, gap_from: float, who: str
) -> None:
    window = log_of(text).window(start, end)

    assert (window.sent, window.lost) == (len(text[start:end]), lost)
    assert (window.gap_s, window.gap_from) == (gap_s, gap_from)
    assert window.first_who + window.last_who == who


@pytest.mark.parametrize(
    ("stalls", "gap_s"),
    [((), 5), (((2.5, 4.5),), 4.5), (((0.0, 2.5),), 4.5), (((2.5, 3.5), (6.0, 7.0)), 3.5), (((4.0, 5.0),), 5)],
    ids=["none", "beside an answer", "in part before it", "at both ends", "between two lost probes"],
)
def test_a_stall_beside_an_answer_is_no_gap(stalls: tuple[tuple[float, float], ...], gap_s: float) -> None:
    assert log_of("aaa....aaa", stalls=stalls).window(0, 10).gap_s == gap_s


@given(st.text("ab. ", max_size=30), moments, moments)
def test_the_probes_of_a_window_agree_with_a_count_by_hand(text: str, start: int, end: int) -> None:
    log, inside = log_of(text), text[start:end].replace(" ", "")
    window = log.window(start, end)
    answers = text[start:].replace(" ", "").replace(".", "")

    assert (window.sent, window.lost) == (len(inside), inside.count("."))
    assert [p.sent_at for p in log.between(start, end)] == [n for n in range(start, end) if text[n : n + 1].strip()]
    assert log.last_sent_at() == max((n for n, who in enumerate(text) if who != " "), default=0)
    assert log.answered_since(start) == (answers[-1] if answers else None)


@given(st.text("ab.", min_size=1, max_size=20), st.integers(0, 19))
def test_the_gap_is_the_longest_silence_of_the_window(text: str, start: int) -> None:
    start = min(start, len(text) - 1)
    longest, since = 0, max((n for n in range(max(0, start - 5), start) if text[n] != "."), default=start)
    for second in range(start, len(text)):
        if text[second] != ".":
            longest, since = max(longest, second - since), second
    tail = len(text) - since

    assert log_of(text).window(start, len(text)).gap_s == max(longest, tail if tail > 1 else 0)


# -------------------------------------------------------------------------------------------------- phases


def call(
    start: float, end: float, *, action: str = "AssignPrivateIpAddresses", caller: str = "b", outcome: str = "OK"
) -> Call:
    addresses: tuple[Address, ...] = (VIP6,) if "Ipv6" in action else (VIP4,)
    return Call(start, end, action, caller, "eni-b", addresses, outcome)


def claim(at: float, node: str = "b") -> Announcement:
    return Announcement(at, node, VIP4, "garp-request", "02:00:00:00:01:0b")


def phases(**changes: object) -> Phases:
    """A node lost at 100: b takes the Lease at 102.9, bears the address at 103, has moved it at 103.41."""
    observed: dict[str, object] = {
        "fault_at": 100.0,
        "take": Take("b", 102.89, 102.9),
        "bearings": [bearing("a", 50, 100), bearing("b", 103.0)],
        "calls": [call(103.01, 103.41)],
        "announcements": [claim(99, "a"), claim(103.002), claim(103.42)],
    }
    return takeover_phases(**(observed | changes))  # type: ignore[arg-type]


def test_a_takeover_is_told_in_its_phases() -> None:
    assert phases() == Phases(detect_ms=2890.0, lease_ms=10.0, address_ms=100.0, eni_ms=400.0, announce_ms=2.0)


def test_without_an_eni_there_is_no_eni_phase() -> None:
    assert phases(calls=[]).eni_ms is None


def test_without_a_take_only_the_time_of_ec2_is_known() -> None:
    assert phases(take=None) == Phases(eni_ms=400.0)


def test_a_successor_that_bore_the_address_already_waited_for_nothing() -> None:
    found = phases(bearings=[bearing("b", 60.0)])

    assert (found.address_ms, found.announce_ms) == (None, None)
    assert found.detect_ms == 2890.0


def test_a_successor_that_never_announced_has_no_announce_phase() -> None:
    assert phases(announcements=[claim(103.1, "a"), claim(101.0)]).announce_ms is None


def test_what_is_stamped_in_the_wrong_order_took_no_time() -> None:
    assert phases(announcements=[claim(102.9995)]).announce_ms == 0.0


V4, V6, OUT6 = "AssignPrivateIpAddresses", "AssignIpv6Addresses", "UnassignIpv6Addresses"


@pytest.mark.parametrize(
    ("calls", "eni_ms"),
    [
        ([call(1, 1.4)], 400),
        ([call(1, 1.1, outcome="RequestLimitExceeded"), call(1.6, 2.0)], 400),
        ([call(1, 1.4, action=OUT6), call(1.4, 1.8, action=V6)], 800),
        ([call(1, 1.4), call(1, 1.4, action=OUT6), call(1.4, 1.8, action=V6)], 800),
        ([call(1, 1.1, action="DescribeNetworkInterfaces"), call(1.1, 1.5)], 500),
        ([call(1, 1.4), call(6, 6.4)], 400),
        ([call(1, 1.4), call(1.5, 1.6, action="DescribeNetworkInterfaces")], 400),
        ([call(1, 1.4, caller="c"), call(2, 2.4)], 400),
        ([call(0.5, 0.9), call(1, 1.4)], 400),
        ([call(1, 1.1, action="DescribeNetworkInterfaces")], None),
        ([call(1, 1.4, action=OUT6)], None),
        ([call(1, 1.4, outcome="Unavailable")], None),
        ([], None),
    ],
    ids=[
        "one call",
        "a throttled one before it is vipd's own pause",
        "IPv6 is unassigned, then assigned",
        "both families",
        "the owner is looked up first",
        "a repair later on is no part of it",
        "a question afterwards is no part of it",
        "somebody else's call",
        "a call from before the fault",
        "only a question",
        "taken away and never assigned",
        "refused",
        "no call",
    ],
)
def test_the_eni_phase_is_the_ec2_calls_that_moved_the_mapping(calls: list[Call], eni_ms: float | None) -> None:
    assert eni_phase_ms(calls, since=1.0, caller="b") == eni_ms


def test_where_the_taker_is_not_known_whoever_called_counts() -> None:
    assert eni_phase_ms([call(1, 1.4, caller="c")], since=1.0, caller=None) == 400


# ----------------------------------------------------------------------------------------------- following


def followed(bearings: list[Bearing], calls: list[Call]) -> Phases:
    return following_phases(since=1.0, bearings=bearings, calls=calls)


def test_each_coming_of_an_address_has_the_call_that_follows_it() -> None:
    comings = [bearing("b", 2.0, 3.0), bearing("b", 4.0, 5.0), bearing("b", 6.0)]
    calls = [call(2.01, 2.41), call(4.03, 4.43), call(6.02, 6.52)]

    assert followed(comings, calls) == Phases(detect_ms=20.0, eni_ms=500.0)


def test_a_request_stamped_before_the_coming_that_it_is_for_took_no_time() -> None:
    assert followed([bearing("b", 2.0)], [call(1.99, 2.39)]) == Phases(detect_ms=0.0, eni_ms=400.0)


def test_refused_calls_and_pauses_count_until_the_address_is_assigned() -> None:
    calls = [call(2.01, 2.11, outcome="RequestLimitExceeded"), call(4.0, 4.41)]

    assert followed([bearing("b", 2.0)], calls) == Phases(detect_ms=10.0, eni_ms=2400.0)


def test_a_repair_has_no_coming() -> None:
    assert followed([bearing("b", 0.5)], [call(6.0, 6.4)]) == Phases(eni_ms=400.0)


def test_what_another_node_called_is_no_answer_to_a_coming() -> None:
    assert followed([bearing("b", 2.0)], [call(2.01, 2.41, caller="c")]).detect_ms is None


def test_calls_from_before_the_fault_are_left_out() -> None:
    assert followed([bearing("b", 0.5)], [call(0.6, 1.0)]) == Phases()
