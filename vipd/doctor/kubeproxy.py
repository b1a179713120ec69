"""Whether kube-proxy serves NodePorts at a VIP: by its mode, and by ``--nodeport-addresses``.

kube-proxy tells its configuration at ``/configz`` of its metrics port.  How it goes by it (kube-proxy 1.36, pkg/proxy):

- every address (none given, but for nftables; or 0.0.0.0/0): iptables and nftables ask the kernel whether an address is
  local, so one that comes later is served at once; ipvs lists the node's addresses every 30 s;
- blocks: every mode lists the addresses in them when it writes its rules: iptables at each sync (when a Service
  changes, else within an hour), nftables at each full sync (an hour), ipvs every 30 s;
- nftables with none given, and ``primary``: the node's primary address alone.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass

from vipd.aws.plainhttp import BadAnswer, ask
from vipd.core.model import Address, Network
from vipd.doctor.finding import Finding, fail, ok, unknown, warn

METRICS = "http://127.0.0.1:10249"
"""kube-proxy's default (metricsBindAddress)."""

CHECK = "nodeport-addresses"
CONNECT_S, TOTAL_S, MAX_BYTES = 0.5, 2.0, 1 << 20
PRIMARY = "primary"
EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
SYNCS = {"iptables": "when a Service changes, else within an hour", "nftables": "within an hour", "ipvs": "within 30 s"}


@dataclass(frozen=True, slots=True)
class Config:
    """What matters here of kube-proxy's configuration."""

    mode: str
    """iptables, nftables or ipvs."""
    addresses: tuple[str, ...]
    """As ``--nodeport-addresses`` has them."""


async def read(url: str = METRICS) -> Config | str:
    """kube-proxy's configuration; a sentence where it does not tell."""
    try:
        async with asyncio.timeout(TOTAL_S):
            status, body = await ask("GET", f"{url}/configz", {}, connect_s=CONNECT_S, max_bytes=MAX_BYTES)
    except (TimeoutError, BadAnswer, OSError) as error:
        return f"kube-proxy does not tell its configuration at {url}/configz ({error or 'no answer'})"
    found = parse(body) if status == 200 else None
    return found or f"what answers at {url}/configz is no kube-proxy (status {status})"


def parse(body: bytes) -> Config | None:
    """Older versions write the keys of Go's structure, newer ones those of the API; None for anything else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    config = document.get("kubeproxy.config.k8s.io") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        return None
    keys = {str(key).lower(): value for key, value in config.items()}
    mode, addresses = keys.get("mode") or "iptables", keys.get("nodeportaddresses") or []
    if not isinstance(mode, str) or mode not in SYNCS or not isinstance(addresses, list):
        return None
    return Config(mode, tuple(map(str, addresses)))


def judge(config: Config, vip: Address, *, static: bool) -> Finding:
    """Whether NodePorts are served at the VIP; ``static``: it is on the node before kube-proxy looks."""
    told = f"--nodeport-addresses {','.join(config.addresses)}" if config.addresses else "no --nodeport-addresses"
    where = f"kube-proxy in {config.mode} mode with {told}"
    if config.addresses == (PRIMARY,) or (config.mode == "nftables" and not config.addresses):
        return fail(
            CHECK,
            f"{where} serves NodePorts at the node's primary address alone, not at {vip}; give it --nodeport-addresses "
            f"{EVERYWHERE[vip.version]}",
        )
    blocks = _blocks(config.addresses, vip)
    everywhere = not blocks or any(block.prefixlen == 0 for block in blocks)
    if everywhere and (static or config.mode != "ipvs"):
        return ok(CHECK, f"{where} serves NodePorts at {vip}")
    if not everywhere and not any(vip in block for block in blocks):
        return fail(CHECK, f"{where} drops NodePort traffic to {vip}; add a block that has it")
    if static:
        return ok(CHECK, f"{where} serves NodePorts at {vip}, where the address was there when it started")
    otherwise = "" if config.mode == "ipvs" else f", or --nodeport-addresses {EVERYWHERE[vip.version]}"
    return warn(
        CHECK,
        f"{where} lists the node's addresses when it writes its rules ({SYNCS[config.mode]}), and serves {vip} only "
        f"from then on after a takeover; use --address-mode static{otherwise}",
    )


def _blocks(texts: Sequence[str], vip: Address) -> list[Network]:
    """The blocks of the VIP's family; none means every address, whatever there is of the other family."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue
    return [block for block in found if block.version == vip.version]


async def nodeport_addresses(vips: Sequence[Address], *, static: bool, url: str = METRICS) -> list[Finding]:
    """One finding for each VIP."""
    config = await read(url)
    if isinstance(config, str):
        return [unknown(CHECK, f"{config}; run this in the host's network of a node")]
    return [judge(config, vip, static=static) for vip in vips]
