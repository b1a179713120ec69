"""Where the Kubernetes API is and who we are there: in a pod its ServiceAccount, elsewhere a kubeconfig.

The token is read anew for each request.  Bound ServiceAccount tokens are replaced in their file before they expire
(after an hour, by default); who reads the file once is locked out then, and with the VIP in his hands.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from vipd.errors import KubeError
from vipd.sockets import forget_when_closed

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient, Configuration

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts token, ca.crt and namespace."""

POOL_SIZE = 8
"""A watch, a renewal, a read, a label, an Event, and room for requests that wait for their time limit."""

EXEC_CHECK_S = 30.0
"""How often the age of a credential plugin's token is looked at, in seconds."""

PLUGIN_S = 30.0
"""How long a credential plugin may take, in seconds."""

log = logging.getLogger(__name__)


async def connect(
    *,
    kubeconfig: str | None = None,
    context: str | None = None,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> ApiClient:
    """A client for the API that ``kubeconfig`` names, else the pod's ServiceAccount, else KUBECONFIG or ~/.kube/config.

    ``context``: one of a kubeconfig, so that a ServiceAccount is not meant.
    Sends nothing yet.  Raises KubeError where there is no configuration or it cannot be used.  The caller closes
    the client (``await client.close()``).
    """
    from kubernetes.aio.client import ApiClient, Configuration

    configuration = Configuration()
    if uses_service_account(kubeconfig, context, environ):
        source = f"the pod's ServiceAccount in {service_account}"
        _use_service_account(configuration, environ, service_account)
    else:
        source = kubeconfig_source(kubeconfig, environ)
        if not _existing(source):
            raise KubeError(_no_configuration(source, kubeconfig, environ))
        await _use_kubeconfig(configuration, source, context)
    configuration.connection_pool_maxsize = POOL_SIZE
    configuration.retries = None
    # Python 3.13 asks for extensions (VERIFY_X509_STRICT) that the CAs of older clusters lack; client-go does not.
    configuration.disable_strict_ssl_verification = True
    configuration.client_session_kwargs = {"middlewares": (never_resend,)}
    try:
        client = ApiClient(configuration)
    except (OSError, ssl.SSLError) as error:
        raise KubeError(
            f"The certificates of {source} cannot be used: {error}. Check the CA and client certificate that it names."
        ) from error
    client.user_agent = f"vipd/{_version()}"
    rest = client.rest_client
    # Its documented place for a connector of one's own; it is called before the first request.
    rest._create_connector = lambda: aiohttp.TCPConnector(
        limit=rest.maxsize, ssl=rest.ssl_context, socket_factory=_socket
    )
    return client


def _socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = info
    sock = socket.socket(family, kind, protocol)
    forget_when_closed(sock)
    return sock


async def never_resend(request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
    """Let a broken connection be an answer.

    aiohttp sends a GET or PUT a second time when the server closed a kept-alive connection under it (RFC 9112,
    9.3.1).  A renewal would then count from its first sending, unknown to its sender, and meet its own conflict.
    """
    try:
        response: aiohttp.ClientResponse = await handler(request)
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        if isinstance(error, aiohttp.ClientConnectorError):
            raise
        raise aiohttp.ClientConnectionError(str(error) or type(error).__name__) from error
    return response


def uses_service_account(kubeconfig: str | None, context: str | None, environ: Mapping[str, str]) -> bool:
    """Whether the pod's ServiceAccount is meant: in a pod, where nobody names a kubeconfig or a context of one."""
    return kubeconfig is None and context is None and bool(environ.get("KUBERNETES_SERVICE_HOST"))


def _no_configuration(source: str, kubeconfig: str | None, environ: Mapping[str, str]) -> str:
    if environ.get("KUBERNETES_SERVICE_HOST"):
        flag = "--context" if kubeconfig is None else "--kubeconfig"
        return (
            f"There is no Kubernetes configuration: {flag} asks for a kubeconfig, and {source} does not exist. "
            "Set KUBECONFIG to a kubeconfig file, or leave the flag out to be the pod's ServiceAccount."
        )
    return (
        f"There is no Kubernetes configuration: this is no pod, and {source} does not exist. "
        "Set KUBECONFIG to a kubeconfig file, or run in a pod with a ServiceAccount."
    )


def kubeconfig_source(kubeconfig: str | None, environ: Mapping[str, str]) -> str:
    """The kubeconfig file, or the list of them that KUBECONFIG is."""
    return kubeconfig or environ.get("KUBECONFIG") or str(_home(environ) / ".kube" / "config")


def own_namespace(*, service_account: Path = SERVICE_ACCOUNT) -> str | None:
    """The pod's namespace, as its ServiceAccount tells it; None outside a pod."""
    try:
        return (service_account / "namespace").read_text().strip() or None
    except OSError:
        return None


class TokenFile:
    """A bearer token in a file that somebody else replaces: a hook for ``Configuration.refresh_api_key_hook``.

    The file is small and in memory (tmpfs), so reading it for each request costs less than guessing its age.
    In the moment of replacement it may be missing or empty; the last token serves then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, configuration: Configuration) -> None:
        """Put the present token into the configuration."""
        try:
            token = self.path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            log.debug("The token file %s cannot be read, the last token serves: %s", self.path, error)
            return
        if token and token.isprintable():
            configuration.api_key["BearerToken"] = f"Bearer {token}"


class ExecToken:
    """A token from a credential plugin (``aws eks get-token``): renewed in the background well before it expires.

    The plugin is another process that may take seconds, or hang; a renewal of the Lease never waits for it.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._looked_at = self._refused_at = asyncio.get_running_loop().time()
        self._task: asyncio.Task[None] | None = None

    def __call__(self, configuration: Configuration) -> None:
        """Start the plugin where the token is about to expire and no other run is under way."""
        now = asyncio.get_running_loop().time()
        if now - self._looked_at < EXEC_CHECK_S or (self._task is not None and not self._task.done()):
            return
        self._looked_at = now
        self._task = asyncio.create_task(self._renew(configuration), name="kubernetes-credential-plugin")

    def refused(self) -> None:
        """The API does not take the token (401): start the plugin at the next request, whatever the token's age.

        No more often than every EXEC_CHECK_S: it may be the API that is wrong.
        """
        now = asyncio.get_running_loop().time()
        if now - self._refused_at >= EXEC_CHECK_S:
            self._refused_at, self._looked_at = now, float("-inf")
            # The loader runs the plugin where it knows of no expiry.
            vars(self._loader).pop("exec_plugin_expiry", None)

    async def _renew(self, configuration: Configuration) -> None:
        # The loader runs the plugin only within five minutes of the expiry, and logs its failures.
        try:
            async with asyncio.timeout(PLUGIN_S):
                await self._loader.load_from_exec_plugin()
        except TimeoutError as error:
            _end_plugin(error)
            log.warning("The credential plugin did not answer within %g s; it will be started again.", PLUGIN_S)
            return
        token = getattr(self._loader, "token", None)
        if token:
            configuration.api_key["BearerToken"] = token


def _end_plugin(error: TimeoutError) -> None:
    """Kill the plugin that was waited for in vain; what it has started itself is left to its own end.

    The loader gives nobody its process, but the cancelled call still bears it.  One that is found no more is left, too.
    """
    trace = error.__cause__.__traceback__ if error.__cause__ else None
    while trace is not None:
        for value in list(trace.tb_frame.f_locals.values()):
            if isinstance(value, asyncio.subprocess.Process) and value.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    value.kill()
        trace = trace.tb_next


async def _answered(loading: Awaitable[Any], source: str) -> Any:
    """The loader, once it has credentials.  Raises KubeError where the plugin does not answer in time."""
    try:
        async with asyncio.timeout(PLUGIN_S):
            return await loading
    except TimeoutError as error:
        _end_plugin(error)
        raise KubeError(
            f"The credential plugin that the kubeconfig {source} names did not answer within {PLUGIN_S:g} s; "
            "run its command by hand to see why."
        ) from error


def _use_service_account(configuration: Configuration, environ: Mapping[str, str], directory: Path) -> None:
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
    configuration.host = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    ca, token_file = directory / "ca.crt", TokenFile(directory / "token")
    if not ca.is_file():
        raise KubeError(
            f"This pod has no ServiceAccount credentials: {ca} does not exist. "
            "Do not set automountServiceAccountToken: false on its Pod or ServiceAccount."
        )
    configuration.ssl_ca_cert = str(ca)
    token_file(configuration)
    if "BearerToken" not in configuration.api_key:
        raise KubeError(f"The ServiceAccount token {token_file.path} cannot be read or is empty. Is it mounted?")
    configuration.refresh_api_key_hook = token_file


async def _use_kubeconfig(configuration: Configuration, source: str, context: str | None) -> None:
    import yaml
    from kubernetes.aio.config import ConfigException, load_kube_config

    try:
        loader = await _answered(
            load_kube_config(source, context=context, client_configuration=configuration, persist_config=False), source
        )
    except (ConfigException, OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise KubeError(f"The kubeconfig {source} cannot be used: {' '.join(str(error).split())}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # What the loader makes of a file that is YAML, but no kubeconfig.
        raise KubeError(f"{source} is no kubeconfig: {type(error).__name__}: {error}") from error
    user = getattr(loader, "_user", None)
    if user is None:
        return
    if "exec" in user:
        if not getattr(loader, "token", None) and not getattr(loader, "cert_file", None):
            raise KubeError(
                f"The credential plugin that the kubeconfig {source} names gave no credentials; "
                "run its command by hand to see why."
            )
        configuration.refresh_api_key_hook = ExecToken(loader)
    elif "tokenFile" in user and "token" not in user:
        path, paths = Path(user["tokenFile"]), _existing(source)
        configuration.refresh_api_key_hook = TokenFile(path if path.is_absolute() else paths[0].parent / path)


def _existing(source: str) -> list[Path]:
    """The files of a KUBECONFIG list that are there."""
    paths = (Path(part).expanduser() for part in source.split(":") if part)
    return [path for path in paths if path.exists()]


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or "/root")


def _version() -> str:
    try:
        return version("vipd")
    except PackageNotFoundError:
        return "unknown"
