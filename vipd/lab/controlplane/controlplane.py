"""kube-apiserver over etcd, on loopback, with TLS and RBAC: a control plane without anybody who runs Pods.

    with ControlPlane(binaries, folder) as plane:
        plane.admin.grant("lab", "vipd", rules)
        plane.kubeconfig(path, token=plane.admin.account_token("lab", "vipd"))

etcd lives as long as the context; kube-apiserver can be stopped, killed, frozen and started again in it, at the same
port and with the same objects.  Both are ended with the context by their process ids; where this process dies first,
the sandbox it should run in (vipd.lab.sandbox) ends them.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from urllib.request import urlopen

from vipd.errors import VipdError
from vipd.lab.controlplane import pki
from vipd.lab.controlplane.admin import Admin
from vipd.lab.controlplane.binaries import Binaries

HOST = "127.0.0.1"
READY_S = 60.0
STOP_S = 20.0
POLL_S = 0.05
ISSUER = "https://kubernetes.default.svc"


class ControlPlane:
    """``folder`` takes keys, data and the logs of both programs."""

    def __init__(self, binaries: Binaries, folder: Path, *, flags: Sequence[str] = ()) -> None:
        """``flags``: more of kube-apiserver's, such as ``--max-mutating-requests-inflight=1``."""
        self._binaries = binaries
        self._folder = folder
        self._flags = tuple(flags)
        self._etcd: subprocess.Popen[bytes] | None = None
        self._api: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._pki = pki.make(folder, address=HOST)
        self._ports = _free_ports(3)
        self.url = f"https://{HOST}:{self._ports[0]}"
        self.admin = Admin(self.url, ca=self.ca, token=secrets.token_hex(16))

    @property
    def ca(self) -> Path:
        """The authority that signed the server's certificate, PEM."""
        return self._pki.ca

    def __enter__(self) -> ControlPlane:
        try:
            self._start_etcd()
            self.start_api()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    # ----------------------------------------------------------------------------------- the server

    def start_api(self) -> None:
        """Start kube-apiserver and wait until it is ready.  Raises VipdError."""
        tokens = self._folder / "tokens.csv"
        tokens.write_text(f'{self.admin.token},admin,admin,"system:masters"\n')
        command = [str(self._binaries.kube_apiserver), *self._api_flags(tokens), *self._flags]
        self._api = self._run("kube-apiserver", command)
        self._await("kube-apiserver", self._api, self._ready)

    def stop_api(self, *, kill: bool = False) -> None:
        """End kube-apiserver, in good order or with SIGKILL."""
        if self._api is not None:
            _end(self._api, signal.SIGKILL if kill else signal.SIGTERM)
            self._api = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """kube-apiserver is stopped (SIGSTOP): connections stand, nothing is answered."""
        assert self._api is not None, "kube-apiserver does not run"
        self._api.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._api.send_signal(signal.SIGCONT)

    def kubeconfig(self, path: Path, *, token: str = "", namespace: str = "default") -> Path:
        """Write a kubeconfig (YAML, as JSON is); without ``token`` the administrator's."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        context = {"cluster": "lab", "user": "u", "namespace": namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token or self.admin.token}}],
            "contexts": [{"name": "lab", "context": context}],
            "current-context": "lab",
        }
        path.write_text(json.dumps(document))
        return path

    def compact(self) -> None:
        """Have etcd forget all past revisions, as kube-apiserver has it do every few minutes."""
        revision = self._etcd_call("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
        self._etcd_call("/v3/kv/compaction", {"revision": revision, "physical": True})

    # ------------------------------------------------------------------------------------- processes

    def _start_etcd(self) -> None:
        client, peer = (f"http://{HOST}:{port}" for port in self._ports[1:])
        command = [str(self._binaries.etcd), "--name=lab", f"--data-dir={self._folder / 'etcd'}"]
        command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        # The data need not survive the machine.
        command += [f"--initial-cluster=lab={peer}", "--unsafe-no-fsync", "--log-level=warn"]
        self._etcd = self._run("etcd", command)
        self._await("etcd", self._etcd, lambda: _answers(f"{client}/health"))

    def _api_flags(self, tokens: Path) -> list[str]:
        keys = self._pki
        return [
            f"--etcd-servers=http://{HOST}:{self._ports[1]}",
            f"--bind-address={HOST}",
            f"--secure-port={self._ports[0]}",
            f"--tls-cert-file={keys.certificate}",
            f"--tls-private-key-file={keys.key}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={keys.token_key}",
            f"--service-account-signing-key-file={keys.token_key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            # Nobody here makes a ServiceAccount "default" for each namespace, without which no Pod could be created.
            "--disable-admission-plugins=ServiceAccount",
            # Where there is no route it must be told an address, which may not be loopback; nobody is sent there
            # (the one is of TEST-NET-1, RFC 5737).
            "--advertise-address=192.0.2.1",
            "--endpoint-reconciler-type=none",
            # An orderly end closes watches; without this it waits a minute for the clients to do so.
            "--shutdown-watch-termination-grace-period=1s",
            "--profiling=false",
        ]

    def _ready(self) -> bool:
        try:
            return self.admin.call("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def _etcd_call(self, path: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
        request = json.dumps(body).encode()
        with urlopen(f"http://{HOST}:{self._ports[1]}{path}", data=request, timeout=STOP_S) as answer:
            found: dict[str, dict[str, str]] = json.load(answer)
            return found

    def _run(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder)

    def _await(self, name: str, process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_S
        while not ready():
            log = self._folder / f"{name}.log"
            if process.poll() is not None:
                raise VipdError(f"{name} ended with exit code {process.returncode}; its log: {log}")
            if time.monotonic() > deadline:
                raise VipdError(f"{name} is not ready after {READY_S:g} s; its log: {log}")
            time.sleep(POLL_S)

    def _end(self) -> None:
        self.stop_api()
        if self._etcd is not None:
            _end(self._etcd, signal.SIGTERM)
            self._etcd = None


def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    process.send_signal(number)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has at this moment; all are held until the last is found, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind((HOST, 0))
        return [sock.getsockname()[1] for sock in sockets]
