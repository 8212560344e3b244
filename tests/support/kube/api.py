"""A small asynchronous client for tests: plain JSON objects, no discovery, no cache."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import httpx

from kube.pki import trusting

Obj = dict[str, Any]
WATCH_SECONDS = 300
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"


class ApiError(Exception):
    """The server's refusal: HTTP status, reason and message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Kind:
    """A kind of object and where the API serves it."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of one object, or of all in a namespace, or of all."""
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{inside}/{self.plural}" + (f"/{name}" if name else "")


kinds = SimpleNamespace(
    namespace=Kind("v1", "Namespace", "namespaces", namespaced=False),
    config_map=Kind("v1", "ConfigMap", "configmaps"),
    service=Kind("v1", "Service", "services"),
    service_account=Kind("v1", "ServiceAccount", "serviceaccounts"),
    pod=Kind("v1", "Pod", "pods"),
    event=Kind("v1", "Event", "events"),
    deployment=Kind("apps/v1", "Deployment", "deployments"),
    replica_set=Kind("apps/v1", "ReplicaSet", "replicasets"),
    lease=Kind("coordination.k8s.io/v1", "Lease", "leases"),
    budget=Kind("policy/v1beta1", "PodDisruptionBudget", "poddisruptionbudgets"),
    network_policy=Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    pod_monitor=Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors"),
    role=Kind("rbac.authorization.k8s.io/v1", "Role", "roles"),
    role_binding=Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    cluster_role=Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False),
    cluster_role_binding=Kind(
        "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
    ),
    crd=Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False),
    inference_service=Kind("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices"),
    serving_runtime=Kind("serving.kserve.io/v1alpha1", "ServingRuntime", "servingruntimes"),
    latent_model=Kind("latentry.dev/v1alpha1", "LatentModel", "latentmodels"),
    gpu_pool=Kind("latentry.dev/v1alpha1", "GPUPool", "gpupools", namespaced=False),
)


class Api:
    """Requests as one user. Every method raises ApiError for a refusal, httpx.TransportError for an absent server."""

    def __init__(self, url: str, ca_file: Path, token: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            verify=trusting(ca_file),
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(30, read=60),
            limits=httpx.Limits(max_connections=100),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.aclose()

    async def request(self, method: str, path: str, body: Obj | None = None, **options: Any) -> Obj:
        """Any request; the answer's JSON."""
        content = None if body is None else json.dumps(body)
        answer = await self._http.request(method, path, content=content, **options)
        if answer.is_error:
            raise _refusal(answer.status_code, answer.content)
        return dict(answer.json())

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Obj:
        return await self.request("GET", kind.path(namespace, name))

    async def find(self, kind: Kind, namespace: str | None, name: str) -> Obj | None:
        """The object, or None where there is none of that name."""
        try:
            return await self.get(kind, namespace, name)
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    async def list(self, kind: Kind, namespace: str | None = None, selector: str = "") -> Obj:
        """The whole list object: ``items`` and ``metadata.resourceVersion``."""
        return await self.request("GET", kind.path(namespace), params={"labelSelector": selector} if selector else None)

    async def create(self, kind: Kind, namespace: str | None, body: Obj) -> Obj:
        full = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        return await self.request("POST", kind.path(namespace), full, headers={"Content-Type": "application/json"})

    async def apply(
        self, kind: Kind, namespace: str | None, body: Obj, *, manager: str, force: bool = False, dry_run: bool = False
    ) -> Obj:
        """Server-side apply."""
        params = {"fieldManager": manager, "force": str(force).lower()} | ({"dryRun": "All"} if dry_run else {})
        full = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        path = kind.path(namespace, body["metadata"]["name"])
        return await self.request("PATCH", path, full, params=params, headers={"Content-Type": APPLY})

    async def merge(
        self, kind: Kind, namespace: str | None, name: str, body: Obj, *, manager: str = "test", subresource: str = ""
    ) -> Obj:
        """JSON merge patch, of the object or of a subresource such as ``status``."""
        path = kind.path(namespace, name) + (f"/{subresource}" if subresource else "")
        headers = {"Content-Type": MERGE}
        return await self.request("PATCH", path, body, params={"fieldManager": manager}, headers=headers)

    async def delete(self, kind: Kind, namespace: str | None, name: str) -> None:
        """Delete, dependants in the background; an object that is gone already is no error."""
        try:
            await self.request("DELETE", kind.path(namespace, name), params={"propagationPolicy": "Background"})
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise

    async def watch(self, kind: Kind, resource_version: str) -> AsyncGenerator[tuple[str, Obj], None]:
        """Changes after ``resource_version`` as (type, object), until the server ends the watch."""
        params: dict[str, str | int] = {
            "watch": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": WATCH_SECONDS,
        }
        timeout = httpx.Timeout(30, read=WATCH_SECONDS + 30)
        async with self._http.stream("GET", kind.path(), params=params, timeout=timeout) as answer:
            if answer.is_error:
                raise _refusal(answer.status_code, await answer.aread())
            async for line in answer.aiter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise _refusal(event["object"].get("code", 500), json.dumps(event["object"]).encode())
                yield event["type"], event["object"]

    async def until_ready(self, seconds: float = 60) -> None:
        """Wait until the server says that it is ready (a restarted one answers some requests before).

        Raises:
            TimeoutError: it did not within ``seconds``.
        """
        async with asyncio.timeout(seconds):
            while True:
                with suppress(httpx.TransportError):
                    if (await self._http.get("/readyz")).is_success:
                        return
                await asyncio.sleep(0.1)

    async def until(
        self, kind: Kind, namespace: str | None, name: str, holds: Callable[[Obj | None], bool], seconds: float = 90
    ) -> Obj | None:
        """Wait until ``holds`` is true of the object (None: there is none); an absent server is waited for too.

        Raises:
            TimeoutError: it was not within ``seconds``; the message shows the object as it was last.
        """
        deadline = time.monotonic() + seconds
        last: Obj | None = None
        while time.monotonic() < deadline:
            try:
                last = await self.find(kind, namespace, name)
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            if holds(last):
                return last
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{kind.name} {namespace}/{name}, not as awaited after {seconds} s: {json.dumps(last)}")

    async def until_seen(
        self, kind: Kind, namespace: str, name: str, holds: Callable[[Obj | None], bool], seconds: float = 90
    ) -> Obj | None:
        """As :meth:`until`, also of a state that is over before another request would see it.

        Raises:
            TimeoutError: it was not within ``seconds``; the message shows the object as it was last.
        """
        last: Obj | None = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with suppress(httpx.TransportError):
                        async with aclosing(self._versions(kind, namespace, name)) as versions:
                            async for last in versions:
                                if holds(last):
                                    return last
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            problem = f"{kind.name} {namespace}/{name}, not as awaited after {seconds} s: {json.dumps(last)}"
            raise TimeoutError(problem) from error

    async def _versions(self, kind: Kind, namespace: str, name: str) -> AsyncGenerator[Obj | None, None]:
        """The object as it is, and each change of it, until the server ends the watch; None: there is none."""
        start = (await self.list(kind, namespace))["metadata"]["resourceVersion"]
        yield await self.find(kind, namespace, name)
        async with aclosing(self.watch(kind, start)) as changes:
            async for change, found in changes:
                if (found["metadata"]["namespace"], found["metadata"]["name"]) == (namespace, name):
                    yield None if change == "DELETED" else found


def _refusal(status: int, content: bytes) -> ApiError:
    try:
        answer = json.loads(content)
    except ValueError:
        return ApiError(status, "Unknown", content.decode(errors="replace"))
    return ApiError(status, str(answer.get("reason", "Unknown")), str(answer.get("message", answer)))
