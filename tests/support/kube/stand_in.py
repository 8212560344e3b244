"""Stands in for the kubelet and for KServe's controller: pods get ready, slow or failed as scripted.

Only pods are scripted. Deployments get their status from the real deployment controller, and InferenceServices theirs
from their Deployment, as in a cluster. Runs inside a test's loop, or as a process of its own:
``python -m kube KUBECONFIG`` (then scripted by annotation alone).
"""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Self

import httpx

from kube import predictor
from kube.api import Api, ApiError, Obj, kinds
from kube.behaviour import ANNOTATION, READY, Behaviour, at, failure, parse, pod_status
from kube.mirror import Key, Mirror, WorkQueue, key_of

log = logging.getLogger(__name__)

MANAGER = "kserve-stand-in"


@dataclass(frozen=True)
class Rule:
    """Pods of Deployments that fit these patterns, and for which ``when`` holds, behave so."""

    namespace: str
    deployment: str
    behaviour: Behaviour
    when: Callable[[Obj], bool]

    def fits(self, pod: Obj) -> bool:
        namespace, deployment = pod["metadata"]["namespace"], deployment_of(pod)
        return fnmatchcase(namespace, self.namespace) and fnmatchcase(deployment, self.deployment) and self.when(pod)


def deployment_of(pod: Obj) -> str:
    """The name of the Deployment a pod belongs to, or its own name."""
    for owner in pod["metadata"].get("ownerReferences", []):
        if owner["kind"] == "ReplicaSet":
            return str(owner["name"].rsplit("-", 1)[0])
    return str(pod["metadata"]["name"])


def service_of(child: Obj) -> Key | None:
    """The InferenceService that KServe takes an object for a child of: by two labels, not by its owner."""
    labels = child["metadata"].get("labels", {})
    if labels.get("component") != "predictor" or predictor.OWNER_LABEL not in labels:
        return None
    return child["metadata"]["namespace"], labels[predictor.OWNER_LABEL]


class StandIn:
    """Use it with ``async with``: it acts from entry to exit. Pods that no rule fits get ready at once."""

    def __init__(self, api: Api) -> None:
        self.ip: Callable[[Obj], str] = lambda pod: "127.0.0.1"
        """The address of a pod; one on loopback, so that a test can serve what is in it."""
        self._api = api
        self._rules: list[Rule] = []
        self._seen: dict[str, float] = {}
        self._shown: dict[str, Behaviour] = {}
        self._rendered: dict[Key, tuple[Obj, Obj]] = {}
        self._pod_queue, self._service_queue = WorkQueue(self._serve_pod), WorkQueue(self._serve_service)
        self._pods = Mirror(api, kinds.pod, self._pod_changed, service_of)
        self._deployments = Mirror(api, kinds.deployment, self._child_changed, service_of)
        self._services = Mirror(api, kinds.inference_service, lambda item: self._service_queue.add(key_of(item)))
        self._runtimes = Mirror(api, kinds.serving_runtime, self._runtime_changed)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run())
        self._task.add_done_callback(_mourn)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop; an error that ended it before is raised here, and was logged when it did."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def run(self) -> None:
        """Act until cancelled."""
        async with asyncio.TaskGroup() as group:
            for part in (self._pods, self._deployments, self._services, self._runtimes):
                group.create_task(part.run())
            group.create_task(self._pod_queue.run())
            group.create_task(self._service_queue.run())

    def script(
        self,
        namespace: str,
        deployment: str,
        behaviour: Behaviour,
        *,
        when: Callable[[Obj], bool] = lambda pod: True,
    ) -> None:
        """From now on, pods of these Deployments (shell patterns) behave so, running ones too; the last rule wins.

        An InferenceService's Deployment is named ``NAME-predictor``. ``when`` narrows it by the pod, for example to
        those of a new template.
        """
        self._rules.append(Rule(namespace, deployment, behaviour, when))
        for key in self._pods.items:
            self._pod_queue.add(key)

    def _behaviour(self, pod: Obj) -> Behaviour:
        annotated = pod["metadata"].get("annotations", {}).get(ANNOTATION)
        if annotated:
            return parse(annotated)
        return next((rule.behaviour for rule in reversed(self._rules) if rule.fits(pod)), READY)

    def _pod_changed(self, pod: Obj) -> None:
        self._pod_queue.add(key_of(pod))
        self._child_changed(pod)

    def _child_changed(self, child: Obj) -> None:
        owner = service_of(child)
        if owner is not None:
            self._service_queue.add(owner)

    def _runtime_changed(self, runtime: Obj) -> None:
        namespace, name = key_of(runtime)
        for key, service in self._services.items.items():
            if key[0] == namespace and service["spec"]["predictor"].get("model", {}).get("runtime") == name:
                self._service_queue.add(key)

    async def _serve_pod(self, key: Key) -> None:
        pod = self._pods.items.get(key)
        if pod is None or "deletionTimestamp" in pod["metadata"]:
            return
        uid = pod["metadata"]["uid"]
        age = time.monotonic() - self._seen.setdefault(uid, time.monotonic())
        wanted = self._behaviour(pod)
        if age < wanted.after:
            self._pod_queue.add_later(key, wanted.after - age)
        shown = at(wanted, age)
        if self._shown.get(uid) == shown:
            return
        body = {"status": pod_status(pod, shown, _now(), self.ip(pod))}
        await self._change(self._api.merge(kinds.pod, *key, body, manager="kubelet-stand-in", subresource="status"))
        self._shown[uid] = shown

    async def _serve_service(self, key: Key) -> None:
        service = self._services.items.get(key)
        if service is None:
            self._rendered.pop(key, None)
            return
        if "deletionTimestamp" in service["metadata"]:
            finalizers = service["metadata"].get("finalizers", [])
            if predictor.FINALIZER in finalizers:
                others = [entry for entry in finalizers if entry != predictor.FINALIZER]
                await self._change(self._merge(key, {"metadata": {"finalizers": others}}))
            return
        missing = _defaults(service)
        if missing:
            await self._change(self._merge(key, missing))
            return  # what this changes comes back through the watch
        await self._remove_orphans(key)
        model = service["spec"]["predictor"].get("model")
        if model is None:
            return
        runtime = self._runtimes.items.get((key[0], model.get("runtime", "")))
        if runtime is None:
            await self._write_status(key, service, predictor.runtime_missing(service, model.get("runtime", ""), _now()))
            return
        await self._apply_children(key, service, runtime)
        child = self._deployments.items.get((key[0], predictor.child_name(service)))
        problem = next((found for pod in self._pods.owned(key) if (found := failure(pod))), None)
        await self._write_status(key, service, predictor.status(service, child, problem, _now()))

    async def _apply_children(self, key: Key, service: Obj, runtime: Obj) -> None:
        rendered = predictor.deployment(service, runtime), predictor.kubernetes_service(service, runtime)
        present = (key[0], predictor.child_name(service)) in self._deployments.items
        if present and self._rendered.get(key) == rendered:
            return
        for kind, body in zip((kinds.deployment, kinds.service), rendered, strict=True):
            await self._api.apply(kind, key[0], body, manager=MANAGER, force=True)
        self._rendered[key] = rendered

    async def _remove_orphans(self, key: Key) -> None:
        """KServe deletes what carries both its labels under another name, whoever owns it."""
        for child in self._deployments.owned(key):
            if child["metadata"]["name"] != f"{key[1]}-predictor":
                await self._api.delete(kinds.deployment, *key_of(child))

    async def _write_status(self, key: Key, service: Obj, wanted: Obj) -> None:
        before = service.get("status", {})
        if any(_present(before.get(field)) != _present(value) for field, value in wanted.items()):
            await self._change(self._merge(key, {"status": wanted}, "status"))

    async def _merge(self, key: Key, body: Obj, subresource: str = "") -> Obj:
        return await self._api.merge(kinds.inference_service, *key, body, manager=MANAGER, subresource=subresource)

    async def _change(self, request: Awaitable[Obj]) -> None:
        """An object that has gone meanwhile needs no change."""
        try:
            await request
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise


def _mourn(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("the stand-in died: from now on no pod gets ready", exc_info=error)


def _defaults(service: Obj) -> Obj:
    """The writes of KServe's webhook and controller that an operator must not fight over, those still to be made."""
    wanted: Obj = {}
    finalizers = service["metadata"].get("finalizers", [])
    if predictor.FINALIZER not in finalizers:
        wanted.setdefault("metadata", {})["finalizers"] = [*finalizers, predictor.FINALIZER]
    if predictor.MODE_ANNOTATION not in service["metadata"].get("annotations", {}):
        wanted.setdefault("metadata", {})["annotations"] = {predictor.MODE_ANNOTATION: "Standard"}
    if "automountServiceAccountToken" not in service["spec"]["predictor"]:
        wanted["spec"] = {"predictor": {"automountServiceAccountToken": False}}
    return wanted


def _present(value: object) -> object:
    """Without nulls, which a merge patch removes."""
    if isinstance(value, dict):
        return {key: _present(entry) for key, entry in value.items() if entry is not None}
    return value


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


if __name__ == "__main__":
    sys.exit("stand-in: this module alone does nothing; run: python -m kube KUBECONFIG")
