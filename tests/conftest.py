"""What all tests rely on: loopback that is up, and no AWS or proxy settings of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from pyroute2 import IPRoute

# A busy machine is no failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

IFF_UP = 0x1
TESTS = Path(__file__).parent
TIMED = ("lab", "link")
"""Tests of these folders look at what real processes and packets do in time.  The scenarios run one after the other,
and the rest of them one after the other: never more than two labs share the machine."""

SCENARIOS = "test_system_scenarios"


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Three at once (pytest-xdist), for most of them wait: those of TIMED, the longest, first, and then the rest."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        # One control plane serves all tests of the folder kube.
        group = "timed" if folder in TIMED else folder if folder == "kube" else item.path.stem
        if item.path.stem == SCENARIOS:
            group = SCENARIOS
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: (item.path.stem != SCENARIOS, item.path.relative_to(TESTS).parts[0] not in TIMED))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What only computes steps back for what keeps time; without root nobody can step forward again."""
    if os.geteuid() == 0:
        timed = item.path.relative_to(TESTS).parts[0] in TIMED
        os.setpriority(os.PRIO_PROCESS, 0, 0 if timed else 10)


@pytest.fixture(scope="session", autouse=True)
def loopback() -> None:
    """In a fresh network namespace lo is down."""
    with IPRoute() as kernel:
        (lo,) = kernel.link_lookup(ifname="lo")
        if not kernel.get_links(lo)[0]["flags"] & IFF_UP:
            kernel.link("set", index=lo, state="up")


@pytest.fixture(autouse=True)
def no_aws_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test sets itself is set: no proxy, profile, or metadata endpoint of the machine."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
