"""Network namespaces that live as long as this process holds them: no names, no mounts, nothing to clean up."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pyroute2.iproute.linux import AsyncIPRoute

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread of its own: a thread that changed its namespace must not be used for anything else."""
    box: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            box.append(work())
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return box[0]


def _new_namespace() -> int:
    _check(_libc.unshare(_CLONE_NEWNET), "unshare(CLONE_NEWNET)")
    return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Namespace:
    """One network namespace with its own netlink socket; ``lo`` is up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._fd = _in_thread(_new_namespace)
        self.ipr = self.netlink()

    @property
    def path(self) -> str:
        """For nsenter and for netlink, from any process that sees this one."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    async def start(self) -> Namespace:
        """Bring ``lo`` up and let neither IPv6 autoconfiguration nor redirects interfere."""
        await self.ipr.link("set", index=1, state="up")
        self.sysctl({"net/ipv4/conf/all/accept_redirects": 0, "net/ipv6/conf/all/accept_ra": 0})
        for scope in ("all", "default"):
            self.sysctl({f"net/ipv6/conf/{scope}/accept_dad": 0, f"net/ipv4/conf/{scope}/send_redirects": 0})
        self.sysctl({"net/ipv6/conf/default/accept_ra": 0, "net/ipv6/conf/default/dad_transmits": 0})
        return self

    def run(self, work: Callable[[], T]) -> T:
        """``work()`` inside the namespace; it must be short."""

        def inside() -> T:
            _check(_libc.setns(self._fd, _CLONE_NEWNET), f"setns({self.name})")
            return work()

        return _in_thread(inside)

    def open(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket made inside; it stays inside whoever uses it."""
        return self.run(lambda: socket.socket(family, kind, protocol))

    def netlink(self) -> AsyncIPRoute:
        """A netlink socket inside.

        Not by pyroute2's own ``netns=``: that forks a child and ends it with SIGTERM, and a signal in a forked child is
        told to the parent's event loop (both write to the same wake-up pipe), which takes it for its own.
        """
        return AsyncIPRoute(fileno=self.open(socket.AF_NETLINK, socket.SOCK_DGRAM).detach())

    def listen(self, address: str, port: int) -> socket.socket:
        """A listening TCP socket inside."""
        sock = self.open(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(64)
        sock.setblocking(False)
        return sock

    def sysctl(self, values: Mapping[str, int]) -> None:
        """Write ``/proc/sys/<key>`` as this namespace has it."""

        def write() -> None:
            for key, value in values.items():
                with open(f"/proc/sys/{key}", "w") as file:
                    file.write(str(value))

        self.run(write)

    async def spawn(self, command: Sequence[str], **options: Any) -> asyncio.subprocess.Process:
        """A process inside.  Its pid is the command's own: nsenter replaces itself."""
        return await asyncio.create_subprocess_exec("nsenter", f"--net={self.path}", *command, **options)

    async def index(self, interface: str) -> int:
        """The interface's index.  Raises KeyError."""
        found = await self.ipr.link_lookup(ifname=interface)
        if not found:
            raise KeyError(f"{self.name} has no interface {interface}")
        return int(found[0])

    async def take(self, interface_index: int, *, source: Namespace) -> None:
        """Move an interface from another namespace into this one."""
        await source.ipr.link("set", index=interface_index, net_ns_fd=self.path)

    async def close(self) -> None:
        """Let go; the kernel ends the namespace when no process is left in it."""
        if self._fd >= 0:
            self.ipr.close()
            os.close(self._fd)
            self._fd = -1


async def join(
    one: Namespace, one_name: str, other: Namespace, other_name: str, *, one_mac: str = "", other_mac: str = ""
) -> tuple[int, int]:
    """A veth pair between two namespaces, both ends up; their indexes."""
    peer: dict[str, Any] = {"ifname": other_name, "net_ns_fd": other.path}
    if other_mac:
        peer["address"] = other_mac
    options: dict[str, Any] = {"address": one_mac} if one_mac else {}
    await one.ipr.link("add", ifname=one_name, kind="veth", peer=peer, **options)
    indexes = (await one.index(one_name), await other.index(other_name))
    await one.ipr.link("set", index=indexes[0], state="up")
    await other.ipr.link("set", index=indexes[1], state="up")
    return indexes
