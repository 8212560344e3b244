"""Server-side apply of a model's objects: only what differs is sent, foreign objects are left alone.

Who may own a field: what we render is ours, except where another manager claimed the field through server-side apply;
then it is that manager's until it lets go. Changes made in other ways (kubectl edit, scripts) are undone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from latentry_operator.kube import fields
from latentry_operator.kube.client import Client
from latentry_operator.kube.errors import Conflict
from latentry_operator.kube.kinds import LATENT_MODEL, Key, Kind, Obj
from latentry_operator.kube.records import Child, Owner, key_of
from latentry_operator.kube.store import Store


class Effect(Enum):
    """What became of one object."""

    UNCHANGED = "unchanged"
    CREATED = "created"
    RESTORED = "restored"
    """It was as we wanted it once, and somebody changed it."""
    UPDATED = "updated"
    REFUSED = "refused"
    """The name is taken by an object that is not ours."""
    BLOCKED = "blocked"
    """The object is being deleted, or belongs to a deleted LatentModel of this name; it will be gone soon."""


@dataclass(frozen=True, slots=True)
class Applied:
    """One object's outcome.

    Attributes:
        claims: fields of ours that other managers applied; they are theirs now.
        message: for REFUSED and BLOCKED: who has the name, and the remedy.
    """

    effect: Effect
    kind: Kind
    name: str
    record: Child | None = None
    claims: bool = False
    message: str = ""


class _Made(NamedTuple):
    """What the server made of what we asked for: hashes of both."""

    uid: str
    asked: bytes
    content: bytes


class Applier:
    """Applies objects and remembers, per object, which content the server made of which desired one."""

    def __init__(self, client: Client, read: Callable[[Obj], Child]) -> None:
        self._client = client
        self._read = read
        self._made: dict[Key, dict[tuple[Kind, str], _Made]] = {}

    async def ensure(self, store: Store[Child], kind: Kind, owner: Owner, desired: Obj) -> Applied:
        """Make the object as desired; ``owner`` becomes its controller.

        Raises:
            KubeError: the server refused, or somebody was quicker; to be tried again.
        """
        key = key_of(desired)
        record = store.get(key)
        if record is None:
            found = await self._client.get(kind, key)
            record = self._read(found) if found is not None else None
        if record is not None:
            if refused := taken(kind, record, owner):
                return refused
            wanted = fields.without(desired, record.claimed)
            if record.owner == owner and self._is(kind, owner, record, wanted):
                return Applied(Effect.UNCHANGED, kind, key[1], record, claims=_claims(desired, record))
        return await self._write(store, kind, owner, desired, record)

    async def remove(self, kind: Kind, model: Key, record: Child) -> None:
        """Delete an object of a model.

        Raises:
            KubeError: the server refused; to be tried again.
        """
        self._made.get(model, {}).pop((kind, record.key[1]), None)
        await self._client.delete(kind, record.key, record.uid)

    async def clear(self, model: Key, owner: Owner, left: Sequence[tuple[Kind, Child]]) -> Sequence[tuple[Kind, Child]]:
        """Delete what an earlier model of this name left; ``owner`` is the model as it is known. What was deleted.

        The garbage collector would, but one whose watch broke while a model was deleted and made again takes the new
        one for the old one, and never does.

        Raises:
            KubeError: the server refused; to be tried again.
        """
        # Were ``owner`` the earlier one of the two, these would be the objects of its successor.
        if not left or await self._client.uid(LATENT_MODEL, model) != owner.uid:
            return ()
        for kind, child in left:
            await self.remove(kind, model, child)
        return left

    def forget(self, model: Key) -> None:
        """The model is gone."""
        self._made.pop(model, None)

    def _is(self, kind: Kind, owner: Owner, record: Child, wanted: Obj) -> bool:
        asked = fields.fingerprint(wanted, record.owned, only_owned=False)
        if record.content == asked:
            return True
        # The server may write a quantity in another way (0.5 as 500m); then only its own answer tells what is equal.
        made = self._made.get((record.key[0], owner.name), {}).get((kind, record.key[1]))
        return made == _Made(record.uid, asked, record.content)

    async def _write(
        self, store: Store[Child], kind: Kind, owner: Owner, desired: Obj, before: Child | None
    ) -> Applied:
        wanted = with_owner(fields.without(desired, before.claimed) if before else desired, owner)
        try:
            answer = await self._client.apply(kind, wanted, force=False)
        except Conflict as error:
            if not error.field_conflicts:
                raise
            live = await self._client.get(kind, key_of(desired))
            if live is None:
                raise
            before = self._read(live)
            if refused := taken(kind, before, owner):
                return refused
            # Exactly the state that was looked at: whoever comes in between makes this a conflict again.
            wanted = with_owner(fields.without(desired, before.claimed), owner)
            wanted["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
            answer = await self._client.apply(kind, wanted, force=True)
        record = self._read(answer)
        store.put(record, ours=True)
        asked = fields.fingerprint(fields.without(desired, record.claimed), record.owned, only_owned=False)
        all_made = self._made.setdefault((record.key[0], owner.name), {})
        made = all_made.get((kind, record.key[1]))
        all_made[(kind, record.key[1])] = _Made(record.uid, asked, record.content)
        if before is not None and before.version == record.version:
            effect = Effect.UNCHANGED
        elif made is not None and made.asked == asked:
            effect = Effect.RESTORED
        else:
            effect = Effect.CREATED if before is None else Effect.UPDATED
        return Applied(effect, kind, record.key[1], record, claims=_claims(desired, record))


def taken(kind: Kind, record: Child, owner: Owner) -> Applied | None:
    """REFUSED or BLOCKED when the name is not ``owner``'s to use, now or at all; else None."""
    holder = record.owner
    name = record.key[1]
    if record.deleting and (holder == owner or record.owned):
        return Applied(Effect.BLOCKED, kind, name, record, message=f"{kind.name} {name} is being deleted")
    if holder == owner:
        return None
    if holder is None and record.owned and record.model == owner.name:
        return None  # ours, orphaned by `kubectl delete --cascade=orphan` or an edit of its owners
    if holder is not None and (holder.kind, holder.name) == (owner.kind, owner.name):
        message = f"{kind.name} {name} of the deleted LatentModel of this name is still being removed"
        return Applied(Effect.BLOCKED, kind, name, record, message=message)
    whose = f"controlled by {holder.kind} {holder.name}" if holder else "not made by this LatentModel"
    message = (
        f"{kind.name} {name} exists and is {whose}, so it is left as it is;"
        f" delete or rename it, or give the LatentModel another name"
    )
    return Applied(Effect.REFUSED, kind, name, record, message=message)


def _claims(desired: Obj, record: Child) -> bool:
    return bool(record.claimed) and fields.without(desired, record.claimed) != desired


def with_owner(desired: Obj, owner: Owner) -> Obj:
    """``desired`` with that LatentModel as its controller."""
    reference = {
        "apiVersion": LATENT_MODEL.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
    }
    return {**desired, "metadata": {**desired["metadata"], "ownerReferences": [reference]}}
