"""The stage for ``vipd host``: workers whose NodePort is reached through the VIP."""

from __future__ import annotations

from vipd.lab.ipamd import Ipamd
from vipd.lab.stage import Stage
from vipd.lab.worker import Worker


class HostStage(Stage):
    """Between two rounds every node is Ready again, with its pod and a kube-proxy that is well."""

    def worker(self, name: str) -> Worker:
        """What Kubernetes has on a node."""
        worker = self.node(name).worker
        assert worker is not None
        return worker

    def stands_by(self, name: str) -> bool:
        """In static mode every node bears the address, always."""
        if not self.lab.setting.static:
            return super().stands_by(name)
        return self.role(name) == "standby" and self.node(name).alive

    async def heal(self) -> None:
        """Uncordon, and take back what is wrong with pod and kube-proxy."""
        await super().heal()
        for node in self.lab.nodes.values():
            worker = self.worker(node.name)
            await self.lab.api.set_node(worker.name)
            worker.proxy_well(True)
            if worker.ipamd is not None:
                worker.ipamd.given.clear()
            if worker.process is None or worker.process.returncode is not None:
                await worker.start()
            worker.ready(True)

    async def renew(self, name: str) -> None:
        """What was wrong with the node is over, and its vipd is a new one, without a hold-down."""
        await self.heal()
        await self.restart(name)

    async def cordon(self, name: str) -> None:
        """``kubectl cordon``."""
        await self.lab.api.set_node(self.worker(name).name, cordoned=True)

    async def ipamd(self, name: str) -> Ipamd:
        """The VPC CNI's daemon on a node; runs from now on."""
        return await self.worker(name).start_ipamd()

    def said(self, name: str, reason: str) -> bool:
        """Whether the node's vipd has logged something for this reason."""
        return f'"reason": "{reason}"' in self.node(name).log.read_text()

    def note_again(self) -> None:
        """Tell how many requests were sent twice since the fault."""
        count = sum(at >= self.fault_at for log in self.lab.probes.values() for at in log.again)
        if count:
            self.notes.append(f"{count} requests were sent twice: their connection was reset as the address moved")
