"""Fixtures: loopback, and a Kubernetes API with one user who may do everything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from api_server import Raw, RunningApi

USER = "system:serviceaccount:default:vipd"


@pytest.fixture
async def api() -> AsyncIterator[RunningApi]:
    """A running server; ``token`` belongs to a user who may do everything."""
    server = RunningApi()
    server.add_user(USER, RunningApi.token)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def raw(api: RunningApi) -> AsyncIterator[Raw]:
    """Plain HTTP to the server."""
    async with aiohttp.ClientSession() as session:
        yield Raw(session, api)


@pytest.fixture
async def client(api: RunningApi, tmp_path: Path) -> AsyncIterator[Any]:
    """An unmodified ``kubernetes.aio`` client."""
    from kubernetes.aio import client, config

    settings = client.Configuration()
    await config.load_kube_config(str(api.kubeconfig(tmp_path / "config")), client_configuration=settings)
    async with client.ApiClient(settings) as connected:
        yield connected
