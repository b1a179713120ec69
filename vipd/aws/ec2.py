"""The one EC2 client of a process, built lazily but ahead of need, with limits fit for a failover.

botocore's defaults (60 s to connect, 60 s to read, retries with backoff) are made for batch jobs.  Here one attempt
is one request: 1 s to connect, 5 s to read, no retry below the caller, who alone knows whether the right to act
still lasts.  ``warm()`` pays for the import, the service model and the credentials (about a second on a busy node)
before a takeover does; called again every minute or so it also renews credentials before they run out.

The settings are botocore's own: AWS_ENDPOINT_URL_EC2, the credential chain, AWS_CA_BUNDLE, and HTTPS_PROXY with
NO_PROXY, since a private cluster may have no other way to EC2.  A plain-http endpoint is an emulator nearby: no
proxy is used for it.  The bare botocore client is used; it is the object boto3 would return, without the 3 MB and
0.1 s that boto3's resource layer costs on top.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, cast

from vipd.aws.gate import check_here
from vipd.aws.slim import MODELS
from vipd.aws.threads import in_daemon_thread
from vipd.aws.verdicts import NO_CREDENTIALS_ADVICE
from vipd.errors import AwsError
from vipd.sockets import forget_when_closed

if TYPE_CHECKING:
    from botocore.session import Session
    from mypy_boto3_ec2 import EC2Client

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 5.0
POOL = 4
"""Connections kept: IPv4, IPv6, a describing reader, and one in place of a stuck one."""

_DETAIL_CHARS = 500


class Ec2:
    """Holds the client; every blocking method says so, and belongs into a worker thread."""

    def __init__(
        self,
        region: str | None = None,
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        """``region`` None: botocore's own choice, which reads AWS_DEFAULT_REGION but not AWS_REGION."""
        self.region = region
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._client: EC2Client | None = None

    def client(self) -> EC2Client:
        """The client; the first call builds it.  Blocks.  Raises botocore's exceptions (no region)."""
        with self._lock:
            if self._client is None:
                self._client = self._build(self._new_session())
            return self._client

    def forget(self) -> None:
        """Drop the client: one that has credentials of a file, or none, never looks for them again."""
        with self._lock:
            self._session = self._client = None

    async def warm(self, *, timeout_s: float = 30.0) -> None:
        """Load, build and resolve everything that a first call would otherwise pay for.  Raises AwsError."""

        def work() -> None:
            self._resolve_credentials()
            self._told(self.client)

        await self._within(work, timeout_s=timeout_s, name="warm")

    async def check_credentials(self, *, timeout_s: float = 10.0) -> None:
        """Find and, where they are temporary, fetch credentials.  Raises AwsError with what to do."""
        await self._within(self._resolve_credentials, timeout_s=timeout_s, name="credentials")

    def close(self) -> None:
        """Close idle connections.  Requests under way end by themselves."""
        with self._lock:
            client, self._client, self._session = self._client, None, None
        if client is not None:
            client.close()

    async def _within(self, work: Any, *, timeout_s: float, name: str) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await in_daemon_thread(work, name=name)
        except TimeoutError:
            raise AwsError(
                f"AWS credentials: no answer within {timeout_s:g} s from the credential source; check that the pod "
                "reaches IMDS, the Pod Identity agent (169.254.170.23) or sts.<region>"
            ) from None
        except OSError as error:
            raise _cannot_prepare(error) from error

    def _resolve_credentials(self) -> None:
        with self._lock:
            session = self._told(self._new_session)
        credentials = self._told(session.get_credentials)
        if credentials is None:
            self.forget()
            raise AwsError(NO_CREDENTIALS_ADVICE)
        # Temporary ones are fetched now (STS, IMDS); those in hand are renewed when their end is near.
        self._told(credentials.get_frozen_credentials)

    def _told(self, work: Any) -> Any:
        try:
            return work()
        except Exception as error:
            # Credentials fail in many ways: what a command printed is no JSON, what STS answered is no XML.
            raise _cannot_prepare(error) from error

    def _new_session(self) -> Session:
        if self._session is None:
            import botocore.session

            session = botocore.session.get_session()
            # The small model of the package, unless the operator names another: AWS_DATA_PATH, or data_path.
            named = session.get_config_variable("data_path")
            session.set_config_variable("data_path", os.pathsep.join(filter(None, (named, str(MODELS)))))
            self._session = session
        return self._session

    def _build(self, session: Session) -> EC2Client:
        from botocore.config import Config

        endpoint = os.environ.get("AWS_ENDPOINT_URL_EC2") or os.environ.get("AWS_ENDPOINT_URL") or ""
        config = Config(
            connect_timeout=self._connect_timeout_s,
            read_timeout=self._read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=POOL,
            tcp_keepalive=True,
            proxies={} if endpoint.startswith("http://") else None,
        )
        client = cast("EC2Client", session.create_client("ec2", region_name=self.region, config=config))
        client.meta.events.register("before-send.ec2", _before_send)
        _gate_new_connections(client)
        return client


def _cannot_prepare(error: Exception) -> AwsError:
    told = " ".join(str(error).split())[:_DETAIL_CHARS]
    return AwsError(f"AWS: cannot prepare calls to EC2: {type(error).__name__}: {told}")


def _before_send(**_: object) -> None:
    check_here()


def _gate_new_connections(client: Any) -> None:
    """Have the gate asked once more between a new connection's handshake and its first request.

    There is no public hook at that place.  Where botocore should one day be built otherwise, the check before
    connecting remains, and a request may leave up to the connect timeout after the right ended.
    """
    from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool

    class Plain(AWSHTTPConnection):
        def connect(self) -> None:
            super().connect()
            forget_when_closed(self.sock)
            check_here()

    class Tls(AWSHTTPSConnection):
        def connect(self) -> None:
            super().connect()
            forget_when_closed(self.sock)
            check_here()

    class PlainPool(AWSHTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(AWSHTTPSConnectionPool):
        ConnectionCls = Tls

    try:
        client._endpoint.http_session._pool_classes_by_scheme.update(http=PlainPool, https=TlsPool)
    except AttributeError:
        log.warning("this botocore has no place to check the right to act after connecting; it is checked before only")
