"""A seed's schedule: who takes part, how the world misbehaves all the time, and what goes wrong when.

Everything is drawn here, before the run, so that a fault can be left out and the rest stays as it is (shrinking),
and so that a failing seed can be told as a list of what happened.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

from vipd.core.model import Address, Fence, Vip

from .api import Noise
from .ec2noise import Ec2Noise

VIP4 = ip_address("10.0.1.100")
VIP6 = ip_address("fd00:1::100")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong (or is asked for), at a time of the world."""

    at: float
    kind: str
    who: int = 0
    """A member's index."""
    lasts_s: float = 0.0
    value: float | str = 0.0

    def __str__(self) -> str:
        extra = f" {self.value}" if self.value else ""
        lasts = f" for {self.lasts_s:.2f} s" if self.lasts_s else ""
        return f"{self.at:7.3f}  {self.kind} {'abcdefgh'[self.who]}{extra}{lasts}"


@dataclass(frozen=True, slots=True)
class Expected:
    """Who serves by then, as the rules say: it bears the VIP, the VPC delivers there, and the Lease is its own."""

    at: float
    who: int
    """A member's index."""
    holds: bool = True
    """False: the Lease may be another's."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What does not change during a schedule."""

    seed: int
    theme: str
    names: tuple[str, ...]
    enis: tuple[int, ...]
    """Number of the ENI of each member; the same number: a shared one."""
    rates: tuple[float, ...]
    durations: tuple[int, ...]
    intervals: tuple[float, ...]
    priorities: tuple[int, ...]
    fence: Fence
    grace_s: float
    families: tuple[int, ...]
    rival: bool
    rival_duration_s: int
    trip_s: tuple[float, float]
    noise: Noise
    ec2_noise: Ec2Noise
    ec2_s: tuple[float, float]
    delivery_lag_s: float
    imds_lags: tuple[float, ...]
    length_s: float
    checks: bool
    """Whether members have health checks."""
    preempt: bool
    macs_differ: bool
    """Whether members of one ENI have MACs of their own (macvlan) or share one (ipvlan)."""
    lossless: bool
    """No fault at all: then no packet is lost."""
    starts: tuple[float, ...] = ()
    """When each member starts; empty: all within half a second."""
    faults: tuple[Fault, ...] = field(default=())
    expected: tuple[Expected, ...] = ()
    """For schedules that are told step by step."""

    def vips(self, interface: str) -> tuple[Vip, ...]:
        return tuple(Vip(a, 32 if a.version == 4 else 128, interface) for a in self.addresses)

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(VIP4 if family == 4 else VIP6 for family in self.families)

    def describe(self) -> list[str]:
        """For people."""
        lags = ", ".join(f"{lag:.2f}" for lag in self.imds_lags)
        members = ", ".join(
            f"{name} (eni-{eni}, rate {rate:.3f}, D {d} s, every {i:.2f} s, priority {p})"
            for name, eni, rate, d, i, p in zip(
                self.names, self.enis, self.rates, self.durations, self.intervals, self.priorities, strict=True
            )
        )
        return [
            f"theme: {self.theme}",
            f"members: {members}",
            f"fence {self.fence}, families {self.families}, grace {self.grace_s:g} s, rival {self.rival}"
            + (f" (LeaseDuration {self.rival_duration_s} s)" if self.rival else ""),
            f"API: trip {self.trip_s[0] * 1e3:.1f}-{sum(self.trip_s) * 1e3:.1f} ms, {self.noise}",
            f"EC2: {self.ec2_s[0]:.2f}-{self.ec2_s[1]:.2f} s, delivery lag {self.delivery_lag_s:.2f} s, "
            f"{self.ec2_noise}",
            f"checks {self.checks}, preempt {self.preempt}, IMDS lags: {lags}",
        ]


def scripted(*faults: Fault, enis: tuple[int, ...] = (1, 2), seed: int = 0, **changes: Any) -> Setting:
    """A setting without chance faults, for schedules that are told step by step: D 3 s, clocks alike, no lag."""
    count = len(enis)
    setting = Setting(
        seed=seed,
        theme="scripted",
        names=tuple("abcd"[:count]),
        enis=enis,
        rates=(1.0,) * count,
        durations=(3,) * count,
        intervals=(1.0,) * count,
        priorities=(100,) * count,
        fence=Fence.ENI,
        grace_s=30.0,
        families=(4,),
        rival=False,
        rival_duration_s=4,
        trip_s=(0.001, 0.002),
        noise=Noise(),
        ec2_noise=Ec2Noise(),
        ec2_s=(0.3, 0.4),
        delivery_lag_s=0.0,
        imds_lags=(0.0,) * count,
        length_s=max((fault.at for fault in faults), default=0.0) + 30.0,
        checks=False,
        preempt=False,
        macs_differ=False,
        lossless=False,
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
    )
    return replace(setting, **changes)


@dataclass(frozen=True, slots=True)
class Theme:
    """What a schedule is about: a few kinds of faults together reach deeper than all kinds at once."""

    weight: int
    kinds: tuple[str, ...] = ()
    """Kinds of faults; empty: a few of all, drawn anew for each seed."""
    fence: Fence | None = None
    rival: bool = False
    shared: bool = False
    noisy: float = 0.5
    """How likely the API misbehaves all the time."""
    slow_calls: bool = False
    slow_api: bool = False
    """Requests are under way for long, so that other things happen meanwhile."""
    long: bool = False
    """Faults last for many seconds."""


THEMES: dict[str, Theme] = {
    "calm": Theme(20, noisy=0.0),
    "anything": Theme(36),
    "lease": Theme(
        10,
        ("api-cut", "api-cut", "crash", "sigstop", "standstill", "watch-silent", "delete-lease", "stop"),
        slow_api=True,
    ),
    "calls": Theme(8, ("ec2-slow", "api-cut", "sigstop", "handover", "steal", "ec2-cut", "crash"), slow_calls=True),
    "offers": Theme(8, ("handover", "handover", "api-cut", "crash", "steal", "stop", "check-fails"), noisy=0.9),
    "holding": Theme(
        6,
        ("api-away", "api-away", "api-cut", "imds-silent", "imds-lags", "crash", "steal", "handover"),
        long=True,
    ),
    "shared": Theme(
        8,
        ("link-down", "api-cut", "sigstop", "crash", "handover", "check-fails", "kernel-slow", "kernel-refuses"),
        fence=Fence.ENI,
        shared=True,
    ),
    "rival": Theme(8, ("handover", "crash", "api-cut", "sigstop"), rival=True),
    "bounded": Theme(
        6, ("kernel-slow", "kernel-refuses", "sigstop", "api-cut", "crash", "stop", "link-down"), fence=Fence.LEASE
    ),
}


def schedule(seed: int) -> Setting:
    """The schedule of a seed."""
    rng = random.Random(seed)
    name = rng.choices(list(THEMES), [theme.weight for theme in THEMES.values()])[0]
    theme = THEMES[name]
    intensity = 0 if name == "calm" else rng.choice((1, 2, 3, 5, 8, 14, 20))
    setting = _setting(rng, seed, name, theme, intensity)
    faults = (*_faults(rng, setting, theme, intensity), *(_spoilt_offers(setting) if intensity else ()))
    return replace(setting, faults=tuple(sorted(faults, key=lambda fault: fault.at)))


def _setting(rng: random.Random, seed: int, name: str, theme: Theme, intensity: int) -> Setting:
    count = rng.choice((1, 2, 2, 2, 2, 3, 3, 4)) if intensity else rng.choice((2, 2, 3))
    if theme.shared:
        count = max(2, count)
    if theme.rival:
        count = min(2, count)
    fence = theme.fence or (Fence.LEASE if rng.random() < 0.15 else Fence.ENI)
    rival = theme.rival or (bool(intensity) and rng.random() < 0.05)
    least = 2 if fence is Fence.LEASE else 1
    duration = max(least, rng.choice((1, 2, 3, 3, 3, 4, 5)))
    share = rng.uniform(0.25, 0.42)
    if rival:
        # client-go sees renewTime in whole seconds: D >= 2 s + the interval.
        duration, share = rng.choice((4, 5)), 0.25
    families = rng.choice(((4,), (4,), (4,), (4,), (4,), (6,), (4, 6))) if fence is Fence.ENI else (4,)
    noisy = bool(intensity) and rng.random() < theme.noisy
    calm_clock = rng.random() < 0.2
    names = list("abcd"[:count])
    enis = list(range(1, count + 1))
    if theme.shared or (intensity and count > 1 and fence is Fence.ENI and rng.random() < 0.06):
        enis[1] = enis[0]
    elif intensity and count > 1 and fence is Fence.ENI and rng.random() < 0.04:
        # A duplicate identity.  Without an ENI nothing tells it from an earlier run of the same pod.
        names[1] = names[0]
    preempt = rng.random() < 0.15
    return Setting(
        seed=seed,
        theme=name,
        names=tuple(names),
        enis=tuple(enis),
        rates=tuple(1.0 if calm_clock else rng.uniform(0.98, 1.02) for _ in range(count)),
        durations=(duration,) * count,
        intervals=(min(2.0, round(duration * share, 2)),) * count,
        priorities=tuple(rng.choice((100, 100, 100, 50, 0)) for _ in range(count)),
        fence=fence,
        grace_s=rng.choice((8.0, 15.0, 30.0)) if intensity else 30.0,
        families=families,
        rival=rival,
        rival_duration_s=rng.choice((4, 5)),
        trip_s=_trip_s(rng, theme, duration),
        noise=_noise(rng) if noisy else Noise(),
        ec2_noise=_ec2_noise(rng) if intensity and rng.random() < 0.5 else Ec2Noise(),
        ec2_s=_ec2_s(rng, theme, intensity),
        delivery_lag_s=rng.choice((0.0, 0.1, 1.0)),
        imds_lags=tuple(rng.choice((0.0, 0.05, 0.5, 2.0, 9.0)) for _ in range(count)),
        length_s=rng.uniform(45.0, 75.0) if preempt else rng.uniform(15.0, 40.0),
        checks="check-fails" in theme.kinds or rng.random() < 0.2,
        preempt=preempt,
        macs_differ=rng.random() < 0.5,
        lossless=intensity == 0,
    )


TRIPS_S = ((0.001, 0.004), (0.001, 0.004), (0.002, 0.03), (0.01, 0.08))


def _trip_s(rng: random.Random, theme: Theme, duration_s: int) -> tuple[float, float]:
    if not theme.slow_api:
        return rng.choice(TRIPS_S)
    # There and back within the time limit of an attempt, a quarter of the duration or half a second.
    share = min(2.0, duration_s) * rng.choice((0.3, 1.0))
    return 0.02 * share, 0.08 * share


def _ec2_s(rng: random.Random, theme: Theme, intensity: int) -> tuple[float, float]:
    if theme.slow_calls:
        return 0.5, 4.0
    return rng.choice(((0.2, 0.6), (0.3, 0.5), (0.1, 2.5))) if intensity else (0.2, 0.6)


def _noise(rng: random.Random) -> Noise:
    def some(most: float) -> float:
        return rng.uniform(0.01, most) if rng.random() < 0.4 else 0.0

    return Noise(
        lost_request=some(0.2),
        lost_reply=some(0.2),
        doubled=some(0.2),
        slow=some(0.3),
        late=some(0.15),
        refused=some(0.2),
    )


def _ec2_noise(rng: random.Random) -> Ec2Noise:
    def some(most: float) -> float:
        return rng.uniform(0.05, most) if rng.random() < 0.4 else 0.0

    # Beyond T_lag only where a withdrawal may be wrong too: that is checked elsewhere.
    late_s = 25.0 if rng.random() < 0.15 else 9.0
    return Ec2Noise(lost=some(0.3), unanswered=some(0.3), throttled=some(0.3), late=some(0.4), late_s=late_s)


# ---------------------------------------------------------------------------------------------- faults


def _short(rng: random.Random) -> float:
    return rng.choice((rng.uniform(0.05, 1.0), rng.uniform(0.5, 4.0), rng.uniform(2.0, 8.0), rng.uniform(6.0, 20.0)))


MOMENTS = ("write", "call")
"""Values of a fault: not at its time, but just after the member's next Lease write (EC2 call) was sent."""

Draw = Callable[[random.Random], "tuple[float, float | str]"]

KINDS: dict[str, tuple[int, Draw]] = {
    # kind: (weight, (lasts, value))
    "crash": (6, lambda r: (_short(r), r.choice(("", "", "other-name", "write", "call")))),
    "stop": (4, lambda r: (_short(r), 0.0)),
    "sigstop": (5, lambda r: (_short(r), r.choice(("", "", "write", "call")))),
    "suspend": (2, lambda r: (_short(r), 0.0)),
    "standstill": (2, lambda r: (_short(r), 0.0)),
    "api-cut": (8, lambda r: (_short(r), r.choice(("", "", "refused", "write", "call")))),
    "api-away": (3, lambda r: (_short(r), 0.0)),
    "api-refuses": (2, lambda r: (_short(r), r.choice(("forbidden", "unauthorized", "server-error", "throttled")))),
    "watch-silent": (4, lambda r: (0.0, 0.0)),
    "watch-breaks": (2, lambda r: (0.0, 0.0)),
    "watch-slow": (3, lambda r: (_short(r), r.choice((0.1, 0.5, 2.0)))),
    "delete-lease": (2, lambda r: (0.0, 0.0)),
    "imds-lags": (3, lambda r: (_short(r), r.choice((1.0, 5.0, 9.5)))),
    "imds-silent": (3, lambda r: (_short(r), 0.0)),
    "ec2-cut": (3, lambda r: (_short(r), 0.0)),
    "ec2-refuses": (3, lambda r: (_short(r), r.choice(("throttled", "throttled", "full", "denied", "outside")))),
    "ec2-slow": (3, lambda r: (_short(r), r.choice((3.0, 8.0)))),
    "steal": (4, lambda r: (0.0, r.choice(("eni-thief", "nobody")))),
    "address-deleted": (3, lambda r: (0.0, 0.0)),
    "kernel-refuses": (1, lambda r: (_short(r), 0.0)),
    "kernel-slow": (2, lambda r: (_short(r), r.choice((0.05, 0.4, 1.5)))),
    "link-down": (3, lambda r: (_short(r), 0.0)),
    "monitor-lost": (1, lambda r: (0.0, 0.0)),
    "wall-step": (1, lambda r: (0.0, r.choice((-30.0, -0.5, 0.5, 5.0)))),
    "handover": (5, lambda r: (_short(r), r.choice(("", "", "somebody", "then-cut", "then-crash")))),
    "check-fails": (3, lambda r: (_short(r), 0.0)),
    "reload": (1, lambda r: (0.0, 0.0)),
    "rival-pauses": (0, lambda r: (_short(r), 0.0)),
}
RIVAL_KINDS = {"rival-starts": 4, "rival-stops": 4, "rival-pauses": 4, "rival-dies": 2}
CALM_KINDS = {"handover": 6, "stop": 5, "restart-standby": 3, "wall-step": 1, "monitor-lost": 1}
CALM_GAP_S = 14.0
"""Between two planned changes: a successor may need T_lag to see its own mapping."""


SPOILT_OFFERS = ("forbidden", "invalid", "server-error", "stripped")


def _spoilt_offers(setting: Setting) -> tuple[Fault, ...]:
    """An admission policy that lets everything pass but offers, with a handover while it is there."""
    rng = random.Random(f"{setting.seed}/offers")
    if rng.random() >= (0.3 if setting.theme == "offers" else 0.03):
        return ()
    at, lasts_s = round(rng.uniform(1.0, setting.length_s - 5.0), 3), round(rng.uniform(2.0, 20.0), 3)
    return (
        Fault(at, "offers-spoilt", 0, lasts_s, rng.choice(SPOILT_OFFERS)),
        Fault(round(at + rng.uniform(0.0, min(lasts_s, 4.0)), 3), "handover", 0, 1.0, rng.choice(("", "then-cut"))),
    )


def _faults(rng: random.Random, setting: Setting, theme: Theme, intensity: int) -> tuple[Fault, ...]:
    members = len(setting.names)
    if not intensity:
        faults = []
        at = rng.uniform(4.0, 12.0)
        while at < setting.length_s:
            kind = rng.choices(list(CALM_KINDS), list(CALM_KINDS.values()))[0]
            value: float | str = rng.choice((-30.0, 0.5, 5.0)) if kind == "wall-step" else ""
            if kind == "handover":
                value = rng.choice(("", "somebody"))
            faults.append(Fault(round(at, 3), kind, rng.randrange(members), rng.uniform(1.0, 3.0), value))
            at += rng.uniform(CALM_GAP_S, CALM_GAP_S + 6.0)
        return tuple(faults)
    weights = {kind: weight for kind, (weight, _) in KINDS.items()}
    if setting.rival:
        weights |= RIVAL_KINDS
    # A few kinds at a time give deeper schedules than all of them at once.
    chosen = list(theme.kinds) or rng.sample(list(weights), k=rng.choice((3, 6, len(weights))))
    if setting.rival:
        chosen += [kind for kind in RIVAL_KINDS if kind not in chosen]
    if not sum(weights[kind] for kind in chosen):
        chosen.append("crash")
    faults = [Fault(rng.uniform(0.3, 3.0), "rival-starts")] if theme.rival else []
    clustered = rng.random() < 0.4
    centre = rng.uniform(4.0, setting.length_s - 4.0)
    for _ in range(intensity):
        kind = rng.choices(chosen, [weights[kind] for kind in chosen])[0]
        _, draw = KINDS.get(kind, (0, lambda r: (_short(r), 0.0)))
        lasts, value = draw(rng)
        if theme.long and lasts:
            lasts = rng.uniform(3.0, 25.0)
        at = rng.gauss(centre, 2.0) if clustered else rng.uniform(2.0, setting.length_s)
        at = min(max(at, 0.5), setting.length_s)
        faults.append(Fault(round(at, 3), kind, rng.randrange(members), round(lasts, 3), value))
    return tuple(sorted(faults, key=lambda fault: fault.at))
