"""Fixtures: a Kubernetes API, the lab's own or a real kube-apiserver, with one user who may do everything.

A test of a module in BOTH runs against each of the two, unless it asks for ``api``, whose knobs only the lab's own has.
The real one is skipped where ``make envtest`` has not provided it.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from api_server import Raw, RunningApi
from real_api import RealApi

from vipd.errors import VipdError
from vipd.lab.controlplane.binaries import find
from vipd.lab.controlplane.controlplane import ControlPlane

USER = "system:serviceaccount:default:vipd"
BOTH = {
    "test_api_leases",
    "test_api_watch",
    "test_client_lease",
    "test_election_live",
    "test_operating_both",
    "test_rival",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Against which API a test runs."""
    if "either" in metafunc.fixturenames:
        both = metafunc.module.__name__ in BOTH and "api" not in metafunc.fixturenames
        metafunc.parametrize("either", ["embedded", "real"] if both else ["embedded"], indirect=True)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One for all tests: it takes seconds to start."""
    try:
        binaries = find()
    except VipdError as error:
        pytest.skip(str(error))
    with ControlPlane(binaries, tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture
async def either(request: pytest.FixtureRequest) -> AsyncIterator[RunningApi | RealApi]:
    """A running server; ``token`` belongs to a user who may do everything."""
    server: RunningApi | RealApi
    if request.param == "real":
        server = RealApi(request.getfixturevalue("control_plane"))
    else:
        server = RunningApi()
        server.add_user(USER, RunningApi.token)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def api(either: RunningApi) -> RunningApi:
    """The lab's own."""
    return either


@pytest.fixture
async def raw(either: RunningApi | RealApi) -> AsyncIterator[Raw]:
    """Plain HTTP to the server."""
    connector = either.connector() if isinstance(either, RealApi) else None
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Raw(session, either)


@pytest.fixture
async def client(either: RunningApi | RealApi, tmp_path: Path) -> AsyncIterator[Any]:
    """An unmodified ``kubernetes.aio`` client."""
    from kubernetes.aio import client, config

    settings = client.Configuration()
    await config.load_kube_config(str(either.kubeconfig(tmp_path / "config")), client_configuration=settings)
    async with client.ApiClient(settings) as connected:
        yield connected


@pytest.fixture
def place(control_plane: ControlPlane) -> str:
    """A namespace that nobody had before."""
    name = f"test-{secrets.token_hex(4)}"
    control_plane.admin.namespace(name)
    return name
