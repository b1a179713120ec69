"""The EC2 client: credentials that are missing or come later, the wait for them, and the small service model."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from aiohttp import web
from aws_servers import Scripted, ec2_done, ec2_error, now

from vipd.aws.ec2 import Ec2
from vipd.aws.ipamd import tagged_no_manage
from vipd.aws.mapping import DescribeMapping
from vipd.aws.mover import Ec2Mover
from vipd.aws.slim import MODELS, OPERATIONS, write
from vipd.aws.verdicts import OUTDATED
from vipd.core.model import AssignVerdict, Eni, Mapped
from vipd.errors import AwsError

VIP4, VIP6 = ipaddress.ip_address("10.0.1.100"), ipaddress.ip_address("fd00:10:0:1::100")
MINE = Eni(id="eni-0000000000000000a", mac="02:00:00:00:01:0a")


async def obey(request: web.Request) -> web.Response:
    return ec2_done(str((await request.post())["Action"]))


async def test_missing_credentials_are_told_at_start_with_what_to_do() -> None:
    with pytest.raises(AwsError, match=r"no AWS credentials found.*IRSA.*Pod Identity.*hop limit of 2"):
        await Ec2Mover(Ec2("us-east-2")).check_credentials()


async def test_missing_credentials_are_not_allowed_and_nothing_is_sent(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", scripted.url)
    (outcome,) = await Ec2Mover(Ec2("us-east-2")).assign(MINE, [VIP4], right_until=lambda: now() + 5)
    assert outcome.verdict is AssignVerdict.NOT_ALLOWED
    assert outcome.code == "NoCredentialsError"
    assert "hop limit of 2" in outcome.detail
    assert scripted.requests == []


async def test_credentials_that_come_later_are_used_by_the_next_attempt(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", scripted.url)
    scripted.handler = obey
    mover = Ec2Mover(Ec2("us-east-2"))
    (first,) = await mover.assign(MINE, [VIP4], right_until=lambda: now() + 5)
    assert first.verdict is AssignVerdict.NOT_ALLOWED
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    (second,) = await mover.assign(MINE, [VIP4], right_until=lambda: now() + 5)
    assert second.verdict is AssignVerdict.OK


@pytest.mark.parametrize("code", sorted(OUTDATED - {"NoCredentialsError"}))
async def test_credentials_of_a_file_that_ec2_no_longer_takes_are_read_again(
    code: str, scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take_the_second(request: web.Request) -> web.Response:
        return await obey(request) if "Credential=SECOND/" in request.headers["Authorization"] else ec2_error(code)

    def rotate(key: str) -> None:
        shared.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = not-a-secret\n")

    shared = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", scripted.url)
    scripted.handler = take_the_second
    mover = Ec2Mover(Ec2("us-east-2"))
    rotate("FIRST")
    (first,) = await mover.assign(MINE, [VIP4], right_until=lambda: now() + 5)
    rotate("SECOND")
    (second,) = await mover.assign(MINE, [VIP4], right_until=lambda: now() + 5)
    assert (first.code, first.verdict, second.verdict) == (code, AssignVerdict.NOT_ALLOWED, AssignVerdict.OK)


async def test_a_silent_credential_source_is_waited_for_no_longer_than_said(
    silence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", silence)
    started = now()
    with pytest.raises(AwsError, match=r"no answer within 0\.3 s"):
        await Ec2("us-east-2").check_credentials(timeout_s=0.3)
    assert now() - started < 3


@pytest.mark.parametrize("printed", ["no JSON", "{}", '{"Version": 1}', "[]"])
async def test_a_credential_process_that_prints_what_it_should_not_is_one_line(
    printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    command = tmp_path / "print"
    command.write_text(f"#!/bin/sh\necho '{printed}'\n")
    command.chmod(0o700)
    config.write_text(f"[default]\ncredential_process = {command}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with pytest.raises(AwsError, match="AWS: cannot prepare calls to EC2: ") as told:
        await Ec2("us-east-2").warm()
    assert "\n" not in str(told.value)


async def test_a_config_file_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text("no section\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(AwsError, match="AWS: cannot prepare calls to EC2: ConfigParseError"):
        await Ec2("us-east-2").warm()


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with RLIMIT_NPROC, or pids.max of the cgroup."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.usefixtures("credentials", "no_threads")
async def test_a_thread_that_cannot_be_started_is_no_end_but_tried_again() -> None:
    ec2 = Ec2("us-east-2")
    mover = Ec2Mover(ec2)
    with pytest.raises(AwsError, match="can't start new thread"):
        await mover.warm()
    outcomes = await mover.assign(MINE, [VIP4, VIP6], right_until=lambda: now() + 5)
    assert [(o.address, o.verdict, o.code) for o in outcomes] == [
        (VIP4, AssignVerdict.RETRY, "no-thread"),
        (VIP6, AssignVerdict.RETRY, "no-thread"),
    ]
    assert await DescribeMapping(ec2).read(MINE, [VIP4], timeout_s=1) == {VIP4: Mapped.UNKNOWN}
    assert await tagged_no_manage(ec2, MINE) is None


@pytest.mark.usefixtures("credentials")
async def test_no_region_is_told_when_warming_and_never_by_an_attempt_that_hangs() -> None:
    with pytest.raises(AwsError, match="NoRegionError"):
        await Ec2().warm()
    (outcome,) = await Ec2Mover(Ec2()).assign(MINE, [VIP4], right_until=lambda: now() + 5)
    assert (outcome.verdict, outcome.code) == (AssignVerdict.NEVER, "NoRegionError")


@pytest.mark.usefixtures("credentials")
async def test_the_client_has_the_small_model_and_with_it_the_calls_in_use(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DATA_PATH", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", scripted.url)
    scripted.handler = obey
    ec2 = Ec2("us-east-2")
    (outcome,) = await Ec2Mover(ec2).assign(MINE, [VIP4], right_until=lambda: now() + 5)
    assert outcome.verdict is AssignVerdict.OK
    assert set(ec2.client().meta.service_model.operation_names) == OPERATIONS


@pytest.mark.usefixtures("credentials")
def test_a_model_that_the_operator_names_goes_before_the_shipped_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target = write(tmp_path)
    model = json.loads(target.read_text())
    del model["operations"]["UnassignIpv6Addresses"]
    target.write_text(json.dumps(model))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    names = Ec2("us-east-2").client().meta.service_model.operation_names
    assert set(names) == OPERATIONS - {"UnassignIpv6Addresses"}


def test_the_shipped_model_is_the_one_of_the_installed_botocore(tmp_path: Path) -> None:
    fresh = write(tmp_path)
    shipped = MODELS / fresh.relative_to(tmp_path)
    assert shipped.read_text() == fresh.read_text(), "after an upgrade of botocore: python -m vipd.aws.slim"
    assert [f for f in MODELS.rglob("*") if f.is_file()] == [shipped]


def test_the_shipped_model_is_small_and_explains_nothing() -> None:
    [shipped] = MODELS.rglob("service-2.json")
    assert shipped.stat().st_size < 30_000
    assert "documentation" not in shipped.read_text()


def test_importing_the_package_and_asking_imds_loads_no_heavy_library() -> None:
    script = (
        "import asyncio, sys, vipd.aws.mover, vipd.aws.imds, vipd.aws.discovery, vipd.aws.mapping\n"
        "asyncio.run(vipd.aws.imds.Imds('http://127.0.0.1:9').ping())\n"
        "print([m for m in ('boto3', 'botocore', 'aiohttp') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True, check=True, timeout=20)
    assert told.stdout.strip() == "[]"
