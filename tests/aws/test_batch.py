"""One call for many addresses: what a bad one, a full ENI or a throttled account cost in calls."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from vipd.aws.batch import split
from vipd.aws.verdicts import Refusal
from vipd.core.model import Address, AssignVerdict

V = AssignVerdict
BAD = Refusal(V.NEVER, "InvalidParameterValue", "outside the subnet")
FULL = Refusal(V.NO_ROOM, "PrivateIpAddressLimitExceeded", "full")
THROTTLED = Refusal(V.THROTTLED, "RequestLimitExceeded", "throttled")
FIFTY: list[Address] = [ipaddress.ip_address("10.0.1.10") + n for n in range(50)]


@dataclass
class Eni:
    """Takes up to ``room`` addresses, none of ``bad``, and only ``tokens`` calls."""

    bad: frozenset[Address] = frozenset()
    room: int = 100
    tokens: int = 1000
    calls: list[list[Address]] = field(default_factory=list)
    has: set[Address] = field(default_factory=set)

    def __call__(self, part: Sequence[Address]) -> Refusal | None:
        self.calls.append(list(part))
        if len(self.calls) > self.tokens:
            return THROTTLED
        if self.bad & set(part):
            return BAD
        if len(self.has | set(part)) > self.room:
            return FULL
        self.has |= set(part)
        return None


def test_good_addresses_are_one_call() -> None:
    eni = Eni()
    assert split(eni, FIFTY) == dict.fromkeys(FIFTY)
    assert len(eni.calls) == 1


def test_no_address_is_no_call() -> None:
    eni = Eni()
    assert split(eni, []) == {}
    assert eni.calls == []


@pytest.mark.parametrize("at", range(50))
def test_one_bad_address_of_fifty_is_found_by_halving(at: int) -> None:
    eni = Eni(bad=frozenset({FIFTY[at]}))
    outcomes = split(eni, FIFTY)
    assert {a for a, refusal in outcomes.items() if refusal} == {FIFTY[at]}
    assert eni.has == set(FIFTY) - {FIFTY[at]}
    assert len(eni.calls) <= 13


def test_one_bad_address_of_four_is_found_one_by_one() -> None:
    eni = Eni(bad=frozenset({FIFTY[3]}))
    outcomes = split(eni, FIFTY[:4])
    assert [outcomes[a] for a in FIFTY[:4]] == [None, None, None, BAD]
    assert len(eni.calls) == 5


def test_bad_addresses_all_over_do_not_sink_a_good_one_between_them() -> None:
    good = {FIFTY[0], FIFTY[7], FIFTY[31], FIFTY[49]}
    eni = Eni(bad=frozenset(FIFTY) - good)
    outcomes = split(eni, FIFTY)
    assert list(outcomes) == FIFTY
    assert {a for a in FIFTY if outcomes[a] is None} == good == eni.has


@pytest.mark.parametrize("room", range(51))
def test_a_nearly_full_eni_is_filled_and_not_asked_further(room: int) -> None:
    eni = Eni(room=room)
    outcomes = split(eni, FIFTY)
    assert [outcomes[a] for a in FIFTY] == [None] * room + [FULL] * (50 - room)
    assert len(eni.calls) <= 9


def test_a_full_eni_with_fifty_to_come_is_asked_once_with_one_address() -> None:
    eni = Eni(room=0)
    assert set(split(eni, FIFTY).values()) == {FULL}
    assert [len(call) for call in eni.calls] == [50, 25, 12, 6, 3, 1]


def test_throttled_on_the_way_the_rest_is_throttled_without_further_calls() -> None:
    eni = Eni(bad=frozenset({FIFTY[49]}), tokens=3)
    outcomes = split(eni, FIFTY)
    assert len(eni.calls) == 4
    assert eni.has == {a for a, refusal in outcomes.items() if refusal is None}
    assert {refusal for refusal in outcomes.values() if refusal} == {THROTTLED}


def test_a_refusal_that_is_known_already_is_not_asked_for_again() -> None:
    eni = Eni(bad=frozenset({FIFTY[0]}))
    assert split(eni, FIFTY[:1], known=BAD) == {FIFTY[0]: BAD}
    assert split(eni, FIFTY[:2], known=BAD) == {FIFTY[0]: BAD, FIFTY[1]: None}
    assert [len(call) for call in eni.calls] == [1, 1]
