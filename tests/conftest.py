"""What all tests rely on: loopback that is up, and no AWS or proxy settings of the machine."""

from __future__ import annotations

import os

import pytest
from pyroute2 import IPRoute

IFF_UP = 0x1


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
