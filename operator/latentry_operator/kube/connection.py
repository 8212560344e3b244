"""Where the API server is and who we are: a kubeconfig file, or the service account of the pod we run in."""

import os
from pathlib import Path

import aiohttp
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION
from yaml import YAMLError

from latentry_serving.contract.errors import InvalidInput

_READ_BUFFER = 2**18
_CONNECT_SECONDS = 5.0
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_REMEDY = "name a kubeconfig file (--kubeconfig or KUBECONFIG) and one of its contexts, or run in a pod with an account"


class Connection:
    """TLS, credentials and the pool of connections, as kubectl would use them.

    Tokens of service accounts are read again every minute; those of a kubeconfig's exec plugin, when one was refused.
    """

    def __init__(self, kubeconfig: Path | None, context: str | None, connections: int) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._connections = connections
        self._configuration = Configuration()
        self._session: aiohttp.ClientSession | None = None
        self.namespace = "default"
        """That of the context or of the pod, as kubectl would take it; known once it is open."""

    @property
    def host(self) -> str:
        """The API server's URL."""
        return str(self._configuration.host)

    async def open(self) -> None:
        """Read the credentials and make the pool; again, when they were refused.

        Raises:
            InvalidInput: there is neither a usable kubeconfig nor a service account.
        """
        self._configuration = await self._load()
        self._configuration.connection_pool_maxsize = self._connections
        rest = RESTClientObject(self._configuration)
        old, self._session = (
            self._session,
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=rest.ssl_context),
                read_bufsize=_READ_BUFFER,
                timeout=aiohttp.ClientTimeout(connect=None, sock_connect=_CONNECT_SECONDS),
                trust_env=self._configuration.proxy is None,
            ),
        )
        if old is not None:
            await old.close()

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str],
        headers: dict[str, str],
        body: bytes | None,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        """One request; the caller reads or releases the answer."""
        if self._session is None:
            raise RuntimeError("Connection.open() comes first")
        token = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        authorization = {"Authorization": token} if token else {}
        return await self._session.request(
            method,
            f"{self.host}{path}",
            params=params,
            headers=headers | authorization,
            data=body,
            timeout=limits,
            proxy=self._configuration.proxy,
            server_hostname=self._configuration.tls_server_name,
        )

    async def _load(self) -> Configuration:
        configuration = Configuration()
        file = str(self._kubeconfig) if self._kubeconfig else KUBE_CONFIG_DEFAULT_LOCATION
        try:
            if self._kubeconfig is None and self._context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
                self.namespace = _own_namespace()
                return configuration
            if not _exists(file):
                raise _unusable(file, "there is no such file")
            loader = await load_kube_config(  # type: ignore[no-untyped-call]
                config_file=file, context=self._context, client_configuration=configuration, persist_config=False
            )
            self.namespace = loader.current_context["context"].get("namespace") or "default"
        except (ConfigException, OSError, YAMLError) as error:
            raise _unusable(file, str(error)) from error
        return configuration


def _own_namespace() -> str:
    return _POD_NAMESPACE.read_text(encoding="utf-8").strip()


def _exists(files: str) -> bool:
    """Whether one of the files is there that KUBECONFIG names."""
    return any(Path(file).expanduser().exists() for file in files.split(os.pathsep))


def _unusable(file: str, problem: str) -> InvalidInput:
    return InvalidInput.one("credentials", path="kubeconfig", problem=f"{file}: {problem}", remedy=_REMEDY)
