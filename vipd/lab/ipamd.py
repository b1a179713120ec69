"""The lab's ipamd: what the VPC CNI's daemon says of itself on a node's loopback, as pkg/ipamd/introspect.go does.

Like the real one it adopts every secondary IPv4 address of the ENI that it manages, here whenever it is asked.
"""

from __future__ import annotations

import socket

from aiohttp import web

from vipd.core.model import Address
from vipd.lab.listener import Listener
from vipd.lab.vpc import EniRecord

PORT = 61679


class Ipamd:
    """Of one node; ``given`` are addresses that pods have, each with its pod ``(namespace, name)``."""

    def __init__(self, eni: EniRecord) -> None:
        self._eni = eni
        self.given: dict[Address, tuple[str, str]] = {}
        app = web.Application()
        app.router.add_get("/v1/enis", self._enis)
        self._listener = Listener(app)

    async def start(self, sock: socket.socket) -> Ipamd:
        """Serve on ``sock`` (bound in the node's namespace; ours from now on)."""
        await self._listener.start(sock, host="", port=0)
        return self

    async def stop(self) -> None:
        """End."""
        await self._listener.stop()

    async def _enis(self, _: web.Request) -> web.Response:
        eni = self._eni
        pool = {f"{address}/32": self._cidr(address) for address in eni.secondaries}
        entry = {
            "ID": eni.id,
            "IsPrimary": False,
            "IsTrunk": False,
            "IsEFA": False,
            "DeviceNumber": eni.device_number,
            "AvailableIPv4Cidrs": pool,
            "IPv6Cidrs": {},
        }
        return web.json_response({"TotalIPs": len(pool), "AssignedIPs": len(self.given), "ENIs": {eni.id: entry}})

    def _cidr(self, address: Address) -> dict[str, object]:
        info: dict[str, object] = {}
        if address in self.given:
            namespace, name = self.given[address]
            info[str(address)] = {
                "Address": str(address),
                "IPAMKey": {"networkName": "aws-cni", "containerID": "0" * 64, "ifName": "eth0"},
                "IPAMMetadata": {"k8sPodNamespace": namespace, "k8sPodName": name},
                "AssignedTime": "2026-01-01T00:00:00Z",
                "UnassignedTime": "0001-01-01T00:00:00Z",
            }
        return {
            "Cidr": {"IP": str(address), "Mask": "/////w=="},
            "IPAddresses": info,
            "IsPrefix": False,
            "AddressFamily": "",
        }
