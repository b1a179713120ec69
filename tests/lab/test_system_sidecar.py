"""``vipd sidecar`` as an operator meets it: signals, endpoints, labels, restarts, and how quiet it is."""

from __future__ import annotations

import asyncio
import json
import signal

from system import eventually, fetch, log_lines

from vipd.lab.kubeapi.store import EVENTS
from vipd.lab.run import staged
from vipd.lab.setting import Setting
from vipd.lab.topology import LEASE, NAMESPACE, Lab
from vipd.lab.vpc import boottime


def role(lab: Lab, name: str) -> str | None:
    return lab.api.pod(NAMESPACE, lab.nodes[name].pod)["metadata"].get("labels", {}).get("vipd.io/role")


async def test_an_idle_standby_sends_nothing_and_its_holder_one_write_an_interval(tmp_path):
    async with staged(Setting(), folder=tmp_path) as stage:
        await stage.pause(1.0)
        since = boottime()
        await stage.pause(8.0)
        by_user = [r for r in stage.lab.api.requests if r.at >= since]
        standby = [r for r in by_user if r.user.endswith(f"vipd-{stage.standby}")]
        writes = [r for r in by_user if r.verb == "update"]
        assert standby == []
        assert 7 <= len(writes) <= 9
        assert len(by_user) == len(writes)


async def test_the_written_lease_is_what_client_go_writes(tmp_path):
    async with staged(Setting(nodes=("a",)), folder=tmp_path) as stage:
        lease = stage.lab.api.lease(NAMESPACE, LEASE)
        assert lease is not None
        spec = lease["spec"]
        assert set(spec) == {
            "holderIdentity",
            "leaseDurationSeconds",
            "acquireTime",
            "renewTime",
            "leaseTransitions",
        }
        assert spec["holderIdentity"] == stage.node("a").identity
        assert spec["leaseDurationSeconds"] == 3
        assert spec["leaseTransitions"] == 0
        stage.signal("a", signal.SIGTERM)
        await stage.until_exit("a", within_s=10)
        lease = stage.lab.api.lease(NAMESPACE, LEASE)
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == ""
        assert lease["spec"]["leaseDurationSeconds"] == 1


async def test_endpoints_and_labels_tell_active_and_standby_apart(tmp_path):
    async with staged(Setting(), folder=tmp_path) as stage:
        lab, active, standby = stage.lab, stage.node(stage.active), stage.node(stage.standby)
        await eventually(lambda: (role(lab, active.name), role(lab, standby.name)) == ("active", "standby"))
        for node, state in ((active, "active"), (standby, "standby")):
            assert (await fetch(lab, node, "/healthz"))[0] == 200
            assert (await fetch(lab, node, "/readyz"))[0] == 200
            status = json.loads((await fetch(lab, node, "/status"))[1])
            assert status["state"] == state
            assert status["lease"]["holder"] == active.identity
            assert status["vips"][0]["address"] == "10.0.1.100"
            assert status["vips"][0]["borne"] == (node is active)
        metrics = (await fetch(lab, active, "/metrics"))[1]
        assert "vipd_" in metrics
        assert (await fetch(lab, active, "/nothing"))[0] == 404
        events = lab.api.store.all(EVENTS, NAMESPACE)
        assert any(e["involvedObject"]["name"] == active.pod for e in events)


async def test_usr1_logs_the_whole_state_and_hup_reloads_what_can_change(tmp_path):
    config = tmp_path / "vipd.yaml"
    config.write_text("priority: 100\n")
    setting = Setting(nodes=("a",), arguments=("--config", str(config)))
    async with staged(setting, folder=tmp_path) as stage:
        node = stage.node("a")
        stage.signal("a", signal.SIGUSR1)
        await eventually(lambda: any("status" in line for line in log_lines(node)))
        config.write_text("priority: 42\n")
        stage.signal("a", signal.SIGHUP)
        await eventually(lambda: any("reloaded" in line["msg"] for line in log_lines(node)))
        status = json.loads((await fetch(stage.lab, node, "/status"))[1])
        assert status["priority"] == 42
        config.write_text("priority: 4000\n")
        stage.signal("a", signal.SIGHUP)
        await eventually(lambda: any("4000" in line["msg"] for line in log_lines(node)))
        status = json.loads((await fetch(stage.lab, node, "/status"))[1])
        assert status["priority"] == 42
        tenure = stage.lab.api.lease(NAMESPACE, LEASE)["metadata"]["annotations"]["vipd.io/tenure"]
        assert json.loads(tenure)["prio"] == 42


async def test_a_killed_and_restarted_holder_keeps_its_tenure_and_loses_no_packet(tmp_path):
    # A Lease that lasts longer than a busy machine takes to start a process, but for the kernel's dead-man switch.
    async with staged(Setting(duration_s=8), folder=tmp_path) as stage:
        name = stage.active
        stage.fault()
        await stage.restart(name)
        await stage.pause(4.0)
        assert stage.holder() == name
        assert stage.serves(name)
        window = next(iter(stage.lab.probes.values())).window(stage.fault_at, stage.now() - 1.2)
        assert window.lost == 0


async def test_left_overs_of_a_superseded_run_are_gone_soon_after_its_restart(tmp_path):
    async with staged(Setting(), folder=tmp_path) as stage:
        name, heir = stage.active, stage.standby
        stage.signal(name, signal.SIGKILL)
        await stage.until_owner(heir, within_s=8)
        assert stage.lab.observer.bears(name)
        await stage.lab.start_vipd(stage.node(name))
        await stage.until_withdrawn(name, within_s=12)
        assert stage.serves(heir)


async def test_vips_on_a_plain_segment_reach_the_neighbours_caches(tmp_path):
    async with staged(Setting(fabric="bridge", families=(4, 6)), folder=tmp_path) as stage:
        name, heir = stage.active, stage.standby
        stage.signal(name, signal.SIGTERM)
        await stage.until_owner(heir, within_s=5)
        client = stage.lab.client
        macs = {}
        async for entry in await client.ipr.neigh("dump"):
            macs[entry.get("dst")] = entry.get("lladdr")
        assert {macs.get(str(vip)) for vip in stage.vips} == {stage.node(heir).mac}
        assert stage.lab.ec2.log == type(stage.lab.ec2.log)()
        assert any("no ENI is managed" in line["msg"] for line in log_lines(stage.node(heir)))


async def test_stopping_before_the_election_began_is_quiet(tmp_path):
    async with Lab(Setting(nodes=("a",), arguments=("--interface-timeout", "30s")), folder=tmp_path) as lab:
        node = lab.nodes["a"]
        await lab.link(node, up=False)
        await lab.start_vipd(node)
        await asyncio.sleep(2.5)
        lab.signal(node, signal.SIGTERM)
        assert node.vipd is not None
        assert await asyncio.wait_for(node.vipd.wait(), 5) == 0
        assert not lab.api.lease_writes


async def test_where_imds_is_blocked_the_flags_and_describe_calls_do_its_part(tmp_path):
    arguments = ("--eni", "eni-0000000000000000a", "--region", "us-east-2", "--subnet-cidr", "10.0.1.0/24")
    async with Lab(Setting(nodes=("a",), arguments=arguments), folder=tmp_path) as lab:
        node = lab.nodes["a"]
        assert node.imds is not None
        node.imds.faults.silent = True
        await lab.start_vipd(node, env={"AWS_ACCESS_KEY_ID": "AKIALABA", "AWS_SECRET_ACCESS_KEY": "lab"})
        await eventually(lambda: lab.mapped_to(lab.setting.vips[0]) == "a")
        await eventually(lambda: any(line.get("reason") == "mapping-confirmed" for line in log_lines(node)))
        assert any(call.action == "DescribeNetworkInterfaces" for call in lab.ec2.log)
        assert any("IMDS does not answer" in line["msg"] for line in log_lines(node))
