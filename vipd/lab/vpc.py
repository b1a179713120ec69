"""The lab's VPC: ENIs and their addresses, with the rules by which EC2 accepts or refuses to move one.

Three views of one truth: the control plane (what EC2 decided), the data plane (where packets go, after
``remap_lag_s``), and IMDS (what a node is told of its own ENI, after ``imds_lag_s``).  AWS documents the remapping as
asynchronous, and IMDS as eventually consistent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from vipd.core.model import Address


def boottime() -> float:
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
    """A subnet with an IPv4 block and perhaps an IPv6 one."""

    id: str
    vpc_id: str
    cidr4: IPv4Network
    cidr6: IPv6Network | None = None

    def __contains__(self, address: Address) -> bool:
        if address.version == 4:
            return address in self.cidr4
        return self.cidr6 is not None and address in self.cidr6

    def reserves(self, address: Address) -> bool:
        """The first four addresses and the last IPv4 one (VPC user guide, subnet CIDR blocks)."""
        block = self.cidr4 if address.version == 4 else self.cidr6
        if block is None:
            return False
        return address in (block[0], block[1], block[2], block[3], block[-1])


@dataclass(slots=True)
class EniRecord:
    """One ENI as EC2 has it."""

    id: str
    mac: str
    subnet: Subnet
    primary: Address
    instance_id: str
    device_number: int = 1
    secondaries: list[Address] = field(default_factory=list)
    ipv6s: list[Address] = field(default_factory=list)
    prefixes: list[IPv4Network] = field(default_factory=list)
    limit4: int = 10
    """IPv4 slots, the primary and each delegated prefix included (m5.large: 10)."""
    limit6: int = 10
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def slots4(self) -> int:
        return 1 + len(self.secondaries) + len(self.prefixes)

    @property
    def addresses(self) -> list[Address]:
        return [self.primary, *self.secondaries, *self.ipv6s]


@dataclass(frozen=True, slots=True)
class Remap:
    """One change of where an address is mapped; ``eni`` None: to nobody."""

    at: float
    address: Address
    eni: str | None
    by: str


class Vpc:
    """The VPC's state and rules."""

    def __init__(self, *, remap_lag_s: float = 0.0, imds_lag_s: float = 0.0) -> None:
        self.remap_lag_s = remap_lag_s
        self.imds_lag_s = imds_lag_s
        self.enis: dict[str, EniRecord] = {}
        self.history: list[Remap] = []
        """Control plane."""
        self.delivered: list[Remap] = []
        """Data plane."""
        self._listeners: list[Callable[[Address, str | None], None]] = []
        self._imds: dict[str, tuple[Address, ...]] = {}

    # ------------------------------------------------------------------------------------- building

    def add(self, eni: EniRecord) -> EniRecord:
        """Attach an ENI; its addresses are mapped at once."""
        self.enis[eni.id] = eni
        self._imds[eni.id] = tuple(eni.addresses)
        for address in eni.addresses:
            self._record(address, eni.id, "attach")
        return eni

    def on_mapping(self, listener: Callable[[Address, str | None], None]) -> None:
        """Call ``listener(address, eni or None)`` whenever the data plane changes, in order."""
        self._listeners.append(listener)

    # ------------------------------------------------------------------------------------- questions

    def owner(self, address: Address) -> str | None:
        """The ENI that the control plane maps the address to."""
        for eni in self.enis.values():
            if address in eni.addresses:
                return eni.id
        return None

    def eni(self, eni_id: str) -> EniRecord:
        """Raises Ec2Refusal for an unknown one."""
        if eni_id not in self.enis:
            raise Ec2Refusal("InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{eni_id}' does not exist")
        return self.enis[eni_id]

    def imds_view(self, eni_id: str) -> tuple[Address, ...]:
        """The addresses that IMDS shows for the ENI at present."""
        return self._imds[eni_id]

    # ---------------------------------------------------------------------------------------- calls

    def assign_v4(self, eni_id: str, addresses: Sequence[Address], *, reassign: bool, by: str) -> None:
        """AssignPrivateIpAddresses.  One bad address fails the whole call and changes nothing."""
        eni = self.eni(eni_id)
        new = [a for a in addresses if a not in eni.secondaries]
        for address in new:
            self._check_v4(eni, address, reassign=reassign)
        if eni.slots4 + len(new) > eni.limit4:
            raise Ec2Refusal(
                "PrivateIpAddressLimitExceeded",
                f"Number of private addresses will exceed limit: {eni.slots4} + {len(new)} > {eni.limit4}",
            )
        for address in new:
            for other in self.enis.values():
                if address in other.secondaries:
                    other.secondaries.remove(address)
                    self._see(other)
            eni.secondaries.append(address)
            self._record(address, eni.id, by)
        self._see(eni)

    def _check_v4(self, eni: EniRecord, address: Address, *, reassign: bool) -> None:
        invalid = "InvalidParameterValue"
        if address not in eni.subnet:
            raise Ec2Refusal(invalid, f"Address {address} does not fall within the subnet's address range")
        if eni.subnet.reserves(address):
            raise Ec2Refusal(invalid, f"Address {address} is in subnet's reserved address range")
        for other in self.enis.values():
            if address == other.primary:
                raise Ec2Refusal(
                    invalid, f"[{address}] is the primary private IP address of network interface {other.id}"
                )
            if any(address in prefix for prefix in other.prefixes):
                raise Ec2Refusal(invalid, f"Address {address} is within a prefix that is assigned to {other.id}")
            if address in other.secondaries and not reassign:
                raise Ec2Refusal(
                    invalid, f"Some of [{address}] are already assigned but the move is not allowed: AllowReassignment"
                )

    def unassign_v4(self, eni_id: str, addresses: Sequence[Address], *, by: str) -> None:
        """UnassignPrivateIpAddresses."""
        eni = self.eni(eni_id)
        missing = [str(a) for a in addresses if a not in eni.secondaries]
        if missing:
            raise Ec2Refusal(
                "InvalidParameterValue", f"Some of the specified addresses are not assigned to {eni_id}: {missing}"
            )
        for address in addresses:
            eni.secondaries.remove(address)
            self._record(address, None, by)
        self._see(eni)

    def assign_v6(self, eni_id: str, addresses: Sequence[Address], *, by: str) -> None:
        """AssignIpv6Addresses: there is no reassignment, and what another ENI has cannot be assigned."""
        eni = self.eni(eni_id)
        new = [a for a in addresses if a not in eni.ipv6s]
        for address in new:
            if address not in eni.subnet:
                raise Ec2Refusal("InvalidParameterValue", f"Address {address} does not fall within the subnet's range")
            if eni.subnet.reserves(address):
                raise Ec2Refusal("InvalidParameterValue", f"Address {address} is in subnet's reserved address range")
            if self.owner(address) is not None:
                raise Ec2Refusal("InvalidParameterValue", f"[{address}] is already assigned to another interface")
        if len(eni.ipv6s) + len(new) > eni.limit6:
            raise Ec2Refusal(
                "InvalidParameterValue",
                f"Address count {len(eni.ipv6s) + len(new)} per interface exceeds the limit {eni.limit6}",
            )
        for address in new:
            eni.ipv6s.append(address)
            self._record(address, eni.id, by)
        self._see(eni)

    def unassign_v6(self, eni_id: str, addresses: Sequence[Address], *, by: str) -> None:
        """UnassignIpv6Addresses."""
        eni = self.eni(eni_id)
        missing = [str(a) for a in addresses if a not in eni.ipv6s]
        if missing:
            raise Ec2Refusal("InvalidParameterValue", f"The addresses {missing} are not assigned to {eni_id}")
        for address in addresses:
            eni.ipv6s.remove(address)
            self._record(address, None, by)
        self._see(eni)

    def steal(self, address: Address, eni_id: str, *, by: str = "third-party") -> None:
        """Somebody else's calls: take the address from whoever has it, and map it to this ENI."""
        if address.version == 4:
            self.assign_v4(eni_id, [address], reassign=True, by=by)
            return
        owner = self.owner(address)
        if owner is not None:
            self.unassign_v6(owner, [address], by=by)
        self.assign_v6(eni_id, [address], by=by)

    def forget(self, addresses: Iterable[Address]) -> None:
        """Unassign from whoever has them, as an operator would to start anew."""
        for address in addresses:
            owner = self.owner(address)
            if owner is not None:
                (self.unassign_v4 if address.version == 4 else self.unassign_v6)(owner, [address], by="operator")

    # ----------------------------------------------------------------------------------------- views

    def _record(self, address: Address, eni_id: str | None, by: str) -> None:
        self.history.append(Remap(boottime(), address, eni_id, by))
        self._after(self.remap_lag_s, lambda: self._deliver(address, eni_id, by))

    def _deliver(self, address: Address, eni_id: str | None, by: str) -> None:
        self.delivered.append(Remap(boottime(), address, eni_id, by))
        for listener in self._listeners:
            listener(address, eni_id)

    def _see(self, eni: EniRecord) -> None:
        addresses = tuple(eni.addresses)
        self._after(self.imds_lag_s, lambda: self._imds.__setitem__(eni.id, addresses))

    def _after(self, lag_s: float, job: Callable[[], None]) -> None:
        if lag_s <= 0:
            job()
        else:
            asyncio.get_running_loop().call_later(lag_s, job)


LAB_SUBNET = Subnet(
    id="subnet-000000000000lab01",
    vpc_id="vpc-0000000000lab0001",
    cidr4=IPv4Network("10.0.1.0/24"),
    cidr6=IPv6Network("fd00:10:0:1::/64"),
)


def parse_addresses(texts: Iterable[str]) -> list[Address]:
    """Raises Ec2Refusal for a text that is no address."""
    try:
        return [ip_address(text) for text in texts]
    except ValueError as error:
        raise Ec2Refusal("InvalidParameterValue", f"invalid value for parameter address: {error}") from error


def parse_prefix(text: str) -> IPv4Network:
    """A delegated IPv4 prefix (/28)."""
    network = ip_network(text)
    assert isinstance(network, IPv4Network)
    return network
