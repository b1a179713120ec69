"""Fixtures of the lab's tests: loopback, a small VPC, and its EC2 and IMDS with unmodified clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import boto3
import pytest
from aws_clients import KEY_A, KEY_B, Boto, eni

from vipd.lab.ec2 import Ec2
from vipd.lab.imds import Imds
from vipd.lab.vpc import Vpc


@pytest.fixture
def vpc() -> Vpc:
    """Two nodes, a and b, with the lab's usual addresses."""
    vpc = Vpc()
    for name in ("a", "b"):
        vpc.add(eni(name))
    return vpc


@pytest.fixture
async def ec2(vpc: Vpc) -> AsyncIterator[Ec2]:
    """EC2 without latency, which knows the nodes a and b."""
    server = await Ec2(vpc, write_s=0, describe_s=0).start()
    server.credentials |= {KEY_A: "a", KEY_B: "b"}
    yield server
    await server.stop()


@pytest.fixture
async def imds(vpc: Vpc) -> AsyncIterator[Imds]:
    """The metadata service of node a."""
    server = await Imds(vpc, eni("a").instance_id, access_key=KEY_A).start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
def aws_session() -> boto3.Session:
    """One for all: it keeps the EC2 model, which takes a while to load."""
    return boto3.Session()


@pytest.fixture
def boto(ec2: Ec2, aws_session: boto3.Session) -> Callable[..., Boto]:
    """Makes EC2 clients: ``boto()``, ``boto(key=..., region=..., read_timeout_s=...)``."""
    return lambda **options: Boto(aws_session, ec2.url, **options)
