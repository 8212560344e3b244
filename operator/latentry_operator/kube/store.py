"""What an informer knows: the newest state of each object, whoever told us first, the watch or our own writes."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from latentry_operator.kube.kinds import Key

_TOMBSTONES = 4096


class Record(Protocol):
    """What of an object is kept."""

    @property
    def key(self) -> Key: ...
    @property
    def version(self) -> int: ...


R = TypeVar("R", bound=Record)
Listener = Callable[[R | None, R | None, bool], None]
"""Called with (before, after, ours): None where there was or is none; ``ours`` when our own write was answered so."""


def version_of(text: str) -> int:
    """A resource version as a number: they grow (KEP-5504); 0, which is older than all, for any other text."""
    return int(text) if text.isdigit() else 0


class Store(Generic[R]):
    """Records by key. Answers to our writes come here too, often before the watch tells: older news are ignored."""

    def __init__(self, listener: Listener[R]) -> None:
        self._listener = listener
        self._records: dict[Key, R] = {}
        self._gone: OrderedDict[Key, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[R]:
        return iter(list(self._records.values()))

    def get(self, key: Key) -> R | None:
        """The record, or None."""
        return self._records.get(key)

    def put(self, record: R, *, ours: bool = False) -> None:
        """Take over a state unless a newer one, or a newer deletion, is known."""
        before = self._records.get(record.key)
        if before is not None and record.version <= before.version:
            return
        if before is None and record.version <= self._gone.get(record.key, -1):
            return
        self._records[record.key] = record
        self._gone.pop(record.key, None)
        self._listener(before, record, ours)

    def drop(self, key: Key, version: int) -> None:
        """The object was deleted at ``version``."""
        before = self._records.get(key)
        if before is not None and before.version > version:
            return
        self._gone[key] = version
        self._gone.move_to_end(key)
        while len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)
        if before is not None:
            del self._records[key]
            self._listener(before, None, False)

    def clear(self) -> None:
        """The kind is gone, and its objects with it."""
        records, self._records = self._records, {}
        for record in records.values():
            self._listener(record, None, False)

    def keep_only(self, keys: Iterable[Key], version: int) -> None:
        """A complete list as of ``version`` had these: what is older and not among them is gone."""
        kept = set(keys)
        for record in self:
            if record.key not in kept:
                self.drop(record.key, version)
