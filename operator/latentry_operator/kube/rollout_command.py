"""``latentry rollout`` in a cluster: reads a LatentModel's status, asks by annotation, waits for what comes of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, TypeVar

from latentry_operator.api.labels import ROLLOUT_ANNOTATION
from latentry_operator.kube.client import Client, ClientSettings
from latentry_operator.kube.connection import Connection
from latentry_operator.kube.errors import KubeError, Unreachable
from latentry_operator.kube.kinds import LATENT_MODEL, Key, Obj
from latentry_operator.plan.rollout.facts import Verb
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.settings import OperatorSettings
from latentry_operator.status.text import condition, ignored, story
from latentry_serving.contract.errors import OperationFailed

T = TypeVar("T")

PATIENCE_SECONDS = 30.0
"""How long the operator has for a command: a look that asks silent taps takes it some seconds."""
_REFUSED_SECONDS = 3.0
"""The same while the spec is not accepted, which keeps it from looking at commands."""
_EVERY_SECONDS = 0.25


class ClusterTarget:
    """A LatentModel that the operator serves.

    Args:
        namespace: None for the one of the kubeconfig's context.
    """

    def __init__(self, name: str, namespace: str | None, settings: OperatorSettings) -> None:
        self._name = name
        self._namespace = namespace
        self._settings = settings

    def status(self) -> str:
        """Where the rollout stands.

        Raises:
            InvalidInput: there are no credentials.
            OperationFailed: there is no such LatentModel, or the cluster does not answer or refuses.
        """

        async def look(client: Client, key: Key) -> str:
            return story(await _get(client, key))

        return asyncio.run(self._with_client(look))

    def command(self, verb: Verb) -> str:
        """Asks the operator, and tells what came of it.

        Raises:
            InvalidInput: as for :meth:`status`.
            OperationFailed: as for :meth:`status`; or the command had nothing to act on, or nobody took it up.
        """

        async def ask(client: Client, key: Key) -> str:
            found = await _get(client, key)
            annotations = found["metadata"].get("annotations") or {}
            asked = again(verb, str(annotations.get(ROLLOUT_ANNOTATION, "")), str(_rollout(found).get("command", "")))
            await client.merge(LATENT_MODEL, key, {"metadata": {"annotations": {ROLLOUT_ANNOTATION: asked}}})
            told = await _answer(client, key, asked)
            return f"{told}\n`latentry rollout status {key[1]} -n {key[0]}` tells how it goes on"

        return asyncio.run(self._with_client(ask))

    async def _with_client(self, work: Callable[[Client, Key], Awaitable[T]]) -> T:
        settings = self._settings
        connection = Connection(settings.kubeconfig, settings.context, settings.api.connections)
        await connection.open()
        key = self._namespace or connection.namespace, self._name
        try:
            limits = ClientSettings(timeout=settings.api.timeout_seconds, attempts=2)
            return await work(Client(connection, limits, lambda *_: None, time.monotonic), key)
        except KubeError as error:
            raise _failure(connection.host, key[0], error) from error
        finally:
            await connection.close()


async def _get(client: Client, key: Key) -> Obj:
    found = await client.get(LATENT_MODEL, key)
    if found is not None:
        return found
    if await client.discover(LATENT_MODEL.root) is None:
        raise OperationFailed(
            "this cluster does not know LatentModels",
            remedy="choose another one with --context or --kubeconfig, or install the chart or manifests/crds",
        )
    namespace, name = key
    raise OperationFailed(
        f"there is no LatentModel {name} in namespace {namespace}",
        remedy="`kubectl get latentmodels -A` lists them, -n chooses the namespace; or start `latentry up` for a model"
        " on this machine",
    )


async def _answer(client: Client, key: Key, asked: str) -> str:
    """What came of a command, as soon as the operator looked at it."""
    begun = time.monotonic()
    while True:
        found = await _get(client, key)
        rollout, accepted = _rollout(found), condition(found, "Accepted")
        if rollout.get("command") == asked:
            return _outcome(rollout, asked)
        refused = accepted.get("status") == "False"
        if time.monotonic() - begun > (_REFUSED_SECONDS if refused else PATIENCE_SECONDS):
            break
        await asyncio.sleep(_EVERY_SECONDS)
    if refused:
        raise OperationFailed(
            f"{asked} waits, as the spec is not accepted: {accepted.get('message', '')}",
            remedy="make the spec valid or write the old one, and it is carried out",
        )
    raise OperationFailed(
        f"the operator has not looked at {asked} within {PATIENCE_SECONDS:g} s",
        remedy="see that it runs (`kubectl get pods -A -l app.kubernetes.io/name=latentry-operator`); it carries it out"
        " once it does",
    )


def _outcome(rollout: dict[str, Any], asked: str) -> str:
    # Without one the status was lost meanwhile, or is of an older release.
    message = str(rollout.get("commandMessage") or f"{asked} was looked at, what came of it is not known")
    if rollout.get("commandReason") == RolloutReason.COMMAND_IGNORED:
        raise ignored(message)
    return message


def _rollout(model: Obj) -> dict[str, Any]:
    return dict((model.get("status") or {}).get("rollout") or {})


def _failure(host: str, namespace: str, error: KubeError) -> OperationFailed:
    if isinstance(error, Unreachable):
        why = str(error.__cause__ or "") or "no answer in time"
        remedy = "see whether it is the right one (--context, --kubeconfig) and can be reached from here"
        return OperationFailed(f"the API server {host} does not answer: {why}", remedy=remedy)
    if error.status == HTTPStatus.UNAUTHORIZED:
        return OperationFailed(f"{host} does not accept the kubeconfig's credentials: {error}", remedy="log in again")
    if error.status == HTTPStatus.FORBIDDEN:
        remedy = f"ask for the role latentry-view in namespace {namespace}, for commands latentry-edit too"
        return OperationFailed(f"{host}: {error}", remedy=remedy)
    return OperationFailed(f"{host}: {error}", remedy="try again; `kubectl describe latentmodel` may tell more")


def again(verb: Verb, *before: str) -> str:
    """The annotation's text: one that was there before would not be carried out again, so they are counted."""
    counts = [
        int(number) if number.isdecimal() else 1 for _, _, number in (text.partition(":") for text in before if text)
    ]
    return f"{verb.value}:{max(counts) + 1}" if counts else verb.value
