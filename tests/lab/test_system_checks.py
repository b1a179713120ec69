"""``vipd sidecar --check``: what the checks say decides who takes the VIP and who keeps it."""

from __future__ import annotations

import json
import signal

from system import eventually, fetch, log_lines

from vipd.lab.setting import Setting
from vipd.lab.topology import LEASE, NAMESPACE, Lab


async def test_the_vip_goes_to_who_is_healthy_and_leaves_who_no_longer_is(tmp_path):
    healthy = tmp_path / "healthy"
    arguments = ("--check", f"exec:test -e {healthy}", "--check-interval", "0.1s", "--check-fall", "2")
    async with Lab(Setting(nodes=("a", "b")), folder=tmp_path) as lab:
        a, b = lab.nodes["a"], lab.nodes["b"]
        await lab.start_vipd(a, *arguments)
        await eventually(lambda: any("is unhealthy: exit code 1" in line["msg"] for line in log_lines(a)))
        code, sentence = await fetch(lab, a, "/readyz")
        assert code == 503
        assert "check exec:test -e " in sentence
        checks = json.loads((await fetch(lab, a, "/status"))[1])["checks"]
        assert checks["healthy"] is False
        assert checks["detail"].endswith(": exit code 1")
        lease = lab.api.lease(NAMESPACE, LEASE)
        assert lease is None or not lease["spec"].get("holderIdentity")
        healthy.touch()
        await eventually(lambda: lab.mapped_to(lab.setting.vips[0]) == "a", within_s=60)
        await lab.start_vipd(b)
        await eventually(lambda: any("ready to take part" in line["msg"] for line in log_lines(b)))
        healthy.unlink()
        await eventually(lambda: lab.mapped_to(lab.setting.vips[0]) == "b")


async def test_on_hup_preempting_changes_at_once_and_checks_need_a_restart(tmp_path):
    config = tmp_path / "vipd.yaml"
    config.write_text("check: exec:true\n")
    async with Lab(Setting(nodes=("a",), arguments=("--config", str(config))), folder=tmp_path) as lab:
        node = lab.nodes["a"]
        await lab.start_vipd(node)
        await eventually(lambda: lab.mapped_to(lab.setting.vips[0]) == "a")
        config.write_text("check: exec:false\npreempt: true\n")
        lab.signal(node, signal.SIGHUP)
        await eventually(lambda: any("reloaded" in line["msg"] for line in log_lines(node)))
        said = [line["msg"] for line in log_lines(node) if "SIGHUP" in line["msg"]]
        assert said == [
            "SIGHUP: these need a restart and stay as they were: check",
            "SIGHUP: configuration reloaded; changed: preempt",
        ]
