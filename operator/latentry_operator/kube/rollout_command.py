"""``latentry rollout`` in a cluster: reads a LatentModel's status, and asks by annotation."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from latentry_operator.api.labels import ROLLOUT_ANNOTATION
from latentry_operator.kube.client import Client, ClientSettings
from latentry_operator.kube.connection import Connection
from latentry_operator.kube.errors import KubeError
from latentry_operator.kube.kinds import LATENT_MODEL, Obj
from latentry_operator.plan.rollout.facts import Verb
from latentry_operator.settings import OperatorSettings
from latentry_serving.contract.errors import OperationFailed

T = TypeVar("T")


class ClusterTarget:
    """A LatentModel that the operator serves."""

    def __init__(self, name: str, namespace: str, settings: OperatorSettings) -> None:
        self._key = namespace, name
        self._settings = settings

    def status(self) -> str:
        """Where the rollout stands.

        Raises:
            OperationFailed: there is no such LatentModel, or the cluster does not answer.
        """
        return asyncio.run(self._with_client(self._status))

    def command(self, verb: Verb) -> str:
        """Asks the operator, which answers in events and in the status.

        Raises:
            OperationFailed: as for :meth:`status`.
        """

        async def ask(client: Client) -> str:
            found = await self._get(client)
            annotations = found["metadata"].get("annotations") or {}
            done = ((found.get("status") or {}).get("rollout") or {}).get("command") or ""
            asked = again(verb, str(annotations.get(ROLLOUT_ANNOTATION, "")), str(done))
            await client.merge(LATENT_MODEL, self._key, {"metadata": {"annotations": {ROLLOUT_ANNOTATION: asked}}})
            return f"asked for {asked}; `latentry rollout status {self._key[1]}` tells what came of it"

        return asyncio.run(self._with_client(ask))

    async def _status(self, client: Client) -> str:
        return story(await self._get(client))

    async def _get(self, client: Client) -> Obj:
        found = await client.get(LATENT_MODEL, self._key)
        if found is None:
            namespace, name = self._key
            raise OperationFailed(
                f"there is no LatentModel {name} in namespace {namespace}",
                remedy="give --namespace; or start `latentry up` for a model on this machine",
            )
        return found

    async def _with_client(self, work: Callable[[Client], Awaitable[T]]) -> T:
        settings = self._settings
        connection = Connection(settings.kubeconfig, settings.context, settings.api.connections)
        await connection.open()
        try:
            limits = ClientSettings(timeout=settings.api.timeout_seconds, attempts=2)
            return await work(Client(connection, limits, lambda *_: None, time.monotonic))
        except KubeError as error:
            remedy = "check the kubeconfig, and that you may get and patch LatentModels"
            raise OperationFailed(f"{connection.host}: {error}", remedy=remedy) from error
        finally:
            await connection.close()


def again(verb: Verb, *before: str) -> str:
    """The annotation's text: one that was there before would not be carried out again, so they are counted."""
    counts = [
        int(number) if number.isdecimal() else 1 for _, _, number in (text.partition(":") for text in before if text)
    ]
    return f"{verb.value}:{max(counts) + 1}" if counts else verb.value


def story(model: Obj) -> str:
    """A LatentModel's status for people, one line for each thing."""
    status = model.get("status") or {}
    lines = []
    for role in ("stable", "candidate"):
        if revision := status.get(role):
            version = revision.get("version") or "not told yet"
            share = f", {revision.get('weight', 0)} % of the traffic" if role == "candidate" else ""
            lines.append(f"{role:<10} {revision['revision']}, version {version}{share}")
    if previous := (status.get("rollout") or {}).get("previous"):
        lines.append(f"{'previous':<10} {previous}")
    lines += [f"{'state':<10} {entry['reason']}: {entry['message']}" for entry in _progressing(status)]
    for gate in (status.get("candidate") or {}).get("verdicts") or ():
        told = f"{gate['gate']} {gate['verdict']} ({gate.get('reason', '')}): {gate.get('message', '')}"
        lines.append(f"{'gate':<10} {told}")
    return "\n".join(lines) or "the operator has not looked at it yet"


def _progressing(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in status.get("conditions") or () if entry["type"] == "Progressing"]
