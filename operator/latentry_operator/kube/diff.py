"""What applying an object would change, asked of the API server by dry run. Writes nothing."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from latentry_operator.kube import fields
from latentry_operator.kube.apply import taken, with_owner
from latentry_operator.kube.client import Client
from latentry_operator.kube.kinds import Key, Kind, Obj
from latentry_operator.kube.records import Child, Owner, key_of

_SERVERS = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
"""Of metadata: what only the server sets, and what says nothing about the content."""


@dataclass(frozen=True, slots=True)
class Change:
    """What would become of one object.

    Attributes:
        before: as it is, None where there is none.
        after: as it would be, None when it would be deleted.
        problem: why nothing would be done: the name is somebody else's, or not free yet.
    """

    kind: Kind
    key: Key
    before: Obj | None
    after: Obj | None
    problem: str = ""

    @property
    def differs(self) -> bool:
        """Whether anything would change, or could not be."""
        return bool(self.problem) or _content(self.before) != _content(self.after)


async def preview(
    client: Client, read: Callable[[Obj], Child], kind: Kind, owner: Owner, desired: Obj, live: Obj | None
) -> Change:
    """What applying ``desired`` would do.

    Args:
        owner: the LatentModel; without a uid when it is not in the cluster yet.
        live: the object as listed, None when it was not among the objects with our labels.

    Raises:
        KubeError: the server refused the object, or did not answer.
    """
    key = key_of(desired)
    if live is None:
        live = await client.get(kind, key)
    wanted = desired
    if live is not None:
        record = read(live)
        if refused := taken(kind, record, owner):
            return Change(kind, key, live, live, refused.message)
        wanted = fields.without(desired, record.claimed)
    after = await client.apply(kind, with_owner(wanted, owner) if owner.uid else wanted, force=True, dry_run=True)
    # Of a new object the server's defaults say nothing that its reader did not know.
    return Change(kind, key, live, after if live is not None else desired)


def unified(change: Change, as_yaml: Callable[[Mapping[str, Any]], str]) -> str:
    """The change as ``diff -u`` would show it under a line that says what would happen; empty without a change."""
    if not change.differs:
        return ""
    name = f"{change.kind.name} {'/'.join(change.key)}"
    if change.problem:
        return f"# {name}: left as it is: {change.problem}\n"
    what = "created" if change.before is None else "pruned" if change.after is None else "changed"
    before, after = (
        as_yaml(side).splitlines(keepends=True) if side else []
        for side in (_content(change.before), _content(change.after))
    )
    lines = difflib.unified_diff(before, after, fromfile=f"live {name}", tofile=f"rendered {name}")
    return f"# {name}: would be {what}\n{''.join(lines)}"


def _content(obj: Obj | None) -> Obj | None:
    if obj is None:
        return None
    metadata = {name: value for name, value in obj["metadata"].items() if name not in _SERVERS}
    return {name: value for name, value in obj.items() if name != "status"} | {"metadata": metadata}
