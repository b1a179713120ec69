"""The lab's VPC: ENIs and their addresses, with the rules by which EC2 accepts or refuses to move one.

One truth, which the control plane (EC2's writes) changes at once, and three views that may follow late: the data plane
(where packets go, ``remap_lag_s``), IMDS (what a node is told of its own ENI, ``imds_lag_s``), and Describe
(``describe_lag_s``).  AWS documents the remapping as asynchronous and the other two as eventually consistent.

A refused call changes nothing, whatever part of it would have been possible.

Codes and messages are those of the EC2 API Reference ("Error codes") and of error reports from the field
(amazon-vpc-cni-k8s #989, cilium #36428, aws-sdk-go #2864).  For two refusals no report with the exact words was found:
another ENI's primary address, and an IPv6 address in use; their code here is the general InvalidParameterValue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

from vipd.core.model import Address, Network
from vipd.lab.lag import Lagging

INVALID = "InvalidParameterValue"
ATTACHED = "attach"
"""The author of the mappings that an ENI came with."""

_VPC_CIDR4 = IPv4Network("10.0.0.0/16")

Listener = Callable[[Address, str | None], None]


def boottime() -> float:
    """Seconds on CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Ec2Refusal(Exception):
    """EC2 says no: ``code`` and message as EC2 words them; ``status`` is the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet with an IPv4 block and perhaps IPv6 ones, in a VPC whose IPv4 block is ``vpc_cidr4``."""

    id: str
    vpc_id: str
    cidr4: IPv4Network
    cidrs6: tuple[IPv6Network, ...] = ()
    vpc_cidr4: IPv4Network = _VPC_CIDR4

    def __contains__(self, address: Address) -> bool:
        return self._block(address) is not None

    def reserves(self, address: Address) -> bool:
        """The first four addresses of a block and its last one (VPC User Guide, "Subnet CIDR blocks")."""
        block = self._block(address)
        return block is not None and address in (block[0], block[1], block[2], block[3], block[-1])

    def _block(self, address: Address) -> Network | None:
        blocks: tuple[Network, ...] = (self.cidr4, *self.cidrs6)
        return next((block for block in blocks if address in block), None)


@dataclass(slots=True)
class EniRecord:
    """One ENI as EC2 has it; after ``Vpc.add`` only the VPC changes its addresses."""

    id: str
    mac: str
    subnet: Subnet
    primary: Address
    instance_id: str
    device_number: int = 1
    secondaries: list[Address] = field(default_factory=list)
    ipv6s: list[Address] = field(default_factory=list)
    prefixes4: list[IPv4Network] = field(default_factory=list)
    """Delegated /28 prefixes."""
    prefixes6: list[IPv6Network] = field(default_factory=list)
    """Delegated /80 prefixes."""
    limit4: int = 10
    """IPv4 slots, the primary and each delegated prefix included (m5.large: 10)."""
    limit6: int = 10
    """IPv6 slots, each delegated prefix included."""
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def slots4(self) -> int:
        """IPv4 slots in use."""
        return 1 + len(self.secondaries) + len(self.prefixes4)

    @property
    def slots6(self) -> int:
        """IPv6 slots in use."""
        return len(self.ipv6s) + len(self.prefixes6)

    @property
    def prefixes(self) -> tuple[Network, ...]:
        """Its delegated prefixes of both families."""
        return (*self.prefixes4, *self.prefixes6)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The primary, the secondaries, the IPv6 addresses."""
        return (self.primary, *self.secondaries, *self.ipv6s)


@dataclass(frozen=True, slots=True)
class Remap:
    """One change of where an address is mapped; ``eni`` None: to nobody.  ``by``: whose call it was."""

    at: float
    address: Address
    eni: str | None
    by: str


class Vpc:
    """The VPC's state and rules.  The three lags are in seconds and may be changed at any time."""

    def __init__(
        self,
        *,
        remap_lag_s: float = 0.0,
        imds_lag_s: float = 0.0,
        describe_lag_s: float = 0.0,
        remap_share: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """``remap_share``: which share (0 to 1) of its lag a change of the data plane takes, drawn for each."""
        self.remap_lag_s = remap_lag_s
        self._remap_share = remap_share
        self.imds_lag_s = imds_lag_s
        self.describe_lag_s = describe_lag_s
        self.enis: dict[str, EniRecord] = {}
        self.history: list[Remap] = []
        """Control plane."""
        self.delivered: list[Remap] = []
        """Data plane."""
        self._listeners: list[Listener] = []
        self._reached: dict[Address, str | None] = {}
        self._imds: dict[str, tuple[Address, ...]] = {}
        self._described: dict[str, tuple[Address, ...]] = {}
        self._remapping, self._to_imds, self._to_describe = Lagging(), Lagging(), Lagging()

    # ------------------------------------------------------------------------------------- building

    def add(self, eni: EniRecord) -> EniRecord:
        """Attach an ENI; every view has its addresses at once.

        Raises ValueError where it contradicts the others (id, MAC, address), or an address is outside its subnet.
        """
        if eni.id in self.enis or any(eni.mac == other.mac for other in self.enis.values()):
            raise ValueError(f"there is an ENI {eni.id} or a MAC {eni.mac} already")
        for address in eni.addresses:
            if address not in eni.subnet or self.owner(address) is not None:
                raise ValueError(
                    f"{eni.id} cannot have {address}: outside {eni.subnet.id}, or {self.owner(address)} has it"
                )
        self.enis[eni.id] = eni
        self._imds[eni.id] = self._described[eni.id] = eni.addresses
        for address in eni.addresses:
            self.history.append(Remap(boottime(), address, eni.id, ATTACHED))
            self._deliver(address, eni.id, ATTACHED)
        return eni

    def on_mapping(self, listener: Listener) -> None:
        """Call ``listener(address, ENI id or None)`` on the loop whenever the data plane changes, in order."""
        self._listeners.append(listener)

    # ------------------------------------------------------------------------------------- questions

    def eni(self, eni_id: str) -> EniRecord:
        """The ENI of that id.  Raises Ec2Refusal for an unknown one."""
        if not eni_id.startswith("eni-"):
            raise Ec2Refusal("InvalidNetworkInterfaceId.Malformed", f'Invalid id: "{eni_id}" (expecting "eni-...")')
        if eni_id not in self.enis:
            raise Ec2Refusal("InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{eni_id}' does not exist")
        return self.enis[eni_id]

    def owner(self, address: Address) -> str | None:
        """The ENI that bears the address by EC2's decisions so far (delegated prefixes are not looked into)."""
        return next((eni.id for eni in self.enis.values() if address in eni.addresses), None)

    def reached(self, address: Address) -> str | None:
        """The ENI that the data plane delivers the address to at present."""
        return self._reached.get(address)

    def imds_view(self, eni_id: str) -> tuple[Address, ...]:
        """The addresses that IMDS shows for the ENI at present.  Raises KeyError."""
        return self._imds[eni_id]

    def describe_view(self, eni_id: str) -> tuple[Address, ...]:
        """The addresses that DescribeNetworkInterfaces shows for the ENI at present.  Raises KeyError."""
        return self._described[eni_id]

    # ---------------------------------------------------------------------------------------- calls

    def assign_v4(
        self, eni_id: str, addresses: Sequence[Address], *, allow_reassignment: bool = False, by: str
    ) -> None:
        """AssignPrivateIpAddresses; what the ENI has already is no change.  Raises Ec2Refusal."""
        eni = self.eni(eni_id)
        self._check_blocks(eni, addresses, version=4)
        new = [a for a in dict.fromkeys(addresses) if a not in eni.addresses]
        elsewhere = [a for a in new if self.owner(a) is not None]
        for other in self.enis.values():
            if other.primary in elsewhere:
                raise Ec2Refusal(INVALID, f"[{other.primary}] is the primary private IP address of {other.id}.")
        if elsewhere and not allow_reassignment:
            raise Ec2Refusal(INVALID, f"[{', '.join(map(str, elsewhere))}] assigned, but move is not allowed.")
        if eni.slots4 + len(new) > eni.limit4:
            raise Ec2Refusal("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")
        for address in new:
            owner = self.owner(address)
            if owner is not None:
                self.enis[owner].secondaries.remove(address)
                self._show(self.enis[owner])
            eni.secondaries.append(address)
            self._map(address, eni.id, by)
        self._show(eni)

    def unassign_v4(self, eni_id: str, addresses: Sequence[Address], *, by: str) -> None:
        """UnassignPrivateIpAddresses.  Raises Ec2Refusal."""
        eni = self.eni(eni_id)
        if eni.primary in addresses:
            raise Ec2Refusal(
                INVALID,
                f"Value ({eni.primary}) for parameter privateIpAddress is invalid. "
                "The primary IP address of an interface cannot be unassigned.",
            )
        self._take(eni, eni.secondaries, addresses, by)

    def assign_v6(self, eni_id: str, addresses: Sequence[Address], *, by: str) -> None:
        """AssignIpv6Addresses, which cannot take what another ENI has.  Raises Ec2Refusal."""
        eni = self.eni(eni_id)
        self._check_blocks(eni, addresses, version=6)
        new = [a for a in dict.fromkeys(addresses) if a not in eni.ipv6s]
        for address in new:
            if self.owner(address) is not None:
                raise Ec2Refusal(INVALID, f"The address {address} is already assigned to another network interface.")
        if eni.slots6 + len(new) > eni.limit6:
            raise Ec2Refusal(
                INVALID,
                f"Address count {eni.slots6 + len(new)} per interface exceeds the limit for m5.large ({eni.limit6})",
            )
        for address in new:
            eni.ipv6s.append(address)
            self._map(address, eni.id, by)
        self._show(eni)

    def unassign_v6(self, eni_id: str, addresses: Sequence[Address], *, by: str) -> None:
        """UnassignIpv6Addresses.  Raises Ec2Refusal."""
        eni = self.eni(eni_id)
        self._take(eni, eni.ipv6s, addresses, by)

    def steal(self, address: Address, eni_id: str, *, by: str = "third-party") -> None:
        """Somebody else's calls: take the address from whoever has it, and map it to this ENI.  Raises Ec2Refusal."""
        if address.version == 4:
            self.assign_v4(eni_id, [address], allow_reassignment=True, by=by)
            return
        owner = self.owner(address)
        if owner is not None and owner != eni_id:
            self.unassign_v6(owner, [address], by=by)
        self.assign_v6(eni_id, [address], by=by)

    def forget(self, addresses: Iterable[Address]) -> None:
        """Unassign from whoever has them, as an operator would to start anew."""
        for address in addresses:
            owner = self.owner(address)
            if owner is not None:
                (self.unassign_v4 if address.version == 4 else self.unassign_v6)(owner, [address], by="operator")

    def _check_blocks(self, eni: EniRecord, addresses: Sequence[Address], *, version: int) -> None:
        """Family, subnet, reserved addresses and delegated prefixes: what is asked of both families."""
        for address in addresses:
            if address.version != version:
                raise Ec2Refusal(INVALID, f"invalid value for parameter address: {address}")
            if address not in eni.subnet:
                raise Ec2Refusal(INVALID, f"Address {address} does not fall within the subnet's address range")
            if eni.subnet.reserves(address):
                raise Ec2Refusal(INVALID, f"Address {address} is in subnet's reserved address range")
            for other in self.enis.values():
                if any(address in prefix for prefix in other.prefixes):
                    raise Ec2Refusal(INVALID, f"Address {address} is within a prefix that is assigned to {other.id}")

    def _take(self, eni: EniRecord, borne: list[Address], addresses: Sequence[Address], by: str) -> None:
        if not all(address in borne for address in addresses):
            raise Ec2Refusal(INVALID, f"Some of the specified addresses are not assigned to interface {eni.id}")
        for address in dict.fromkeys(addresses):
            borne.remove(address)
            self._map(address, None, by)
        self._show(eni)

    # ----------------------------------------------------------------------------------------- views

    def _map(self, address: Address, eni_id: str | None, by: str) -> None:
        self.history.append(Remap(boottime(), address, eni_id, by))
        lag_s = self.remap_lag_s * self._remap_share()
        self._remapping.put(lambda: self._deliver(address, eni_id, by), lag_s=lag_s)

    def _deliver(self, address: Address, eni_id: str | None, by: str) -> None:
        self.delivered.append(Remap(boottime(), address, eni_id, by))
        self._reached[address] = eni_id
        for listener in self._listeners:
            listener(address, eni_id)

    def _show(self, eni: EniRecord) -> None:
        seen = eni.addresses
        self._to_imds.put(lambda: self._imds.update({eni.id: seen}), lag_s=self.imds_lag_s)
        self._to_describe.put(lambda: self._described.update({eni.id: seen}), lag_s=self.describe_lag_s)


LAB_SUBNET = Subnet(
    id="subnet-000000000000lab01",
    vpc_id="vpc-0000000000lab0001",
    cidr4=IPv4Network("10.0.1.0/24"),
    cidrs6=(IPv6Network("fd00:10:0:1::/64"),),
)


def parse_addresses(texts: Iterable[str]) -> list[Address]:
    """Raises Ec2Refusal for a text that is no address."""
    try:
        return [ip_address(text) for text in texts]
    except ValueError as error:
        raise Ec2Refusal(INVALID, f"invalid value for parameter address: {error}") from error
