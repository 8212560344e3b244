"""Writes the status subresource, through server-side apply so that others' conditions stay, and only what changed."""

from collections.abc import Mapping
from typing import Any

from latentry_operator.kube.client import Client
from latentry_operator.kube.errors import NotFound
from latentry_operator.kube.kinds import Kind
from latentry_operator.kube.records import Stored, stored
from latentry_operator.kube.store import Store


async def write_status(
    client: Client, store: Store[Stored], kind: Kind, record: Stored, status: Mapping[str, Any]
) -> bool:
    """Make the object's status ``status``; whether that took a write. An object that is gone needs none.

    Raises:
        KubeError: the server refused; to be tried again.
    """
    if says(record.raw.get("status") or {}, status):
        return False
    namespace, name = record.key
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "status": dict(status)}
    try:
        answer = await client.apply(kind, body, force=True, subresource="status")
    except NotFound:
        return False
    store.put(stored(answer), ours=True)
    return True


def says(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether ``live`` is ``wanted`` and, of conditions, perhaps more: those of other writers."""
    rest = {name: value for name, value in live.items() if name != "conditions"}
    if rest != {name: value for name, value in wanted.items() if name != "conditions"}:
        return False
    present = {entry["type"]: entry for entry in live.get("conditions") or ()}
    return all(present.get(entry["type"]) == entry for entry in wanted.get("conditions") or ())
