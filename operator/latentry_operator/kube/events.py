"""Kubernetes Events about our objects: repeated ones are counted, many alike put together, lost ones not repeated."""

import asyncio
import logging
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from latentry_operator.kube.client import Client
from latentry_operator.kube.errors import KubeError
from latentry_operator.kube.kinds import EVENT, Kind, Obj
from latentry_operator.kube.records import Stored

log = logging.getLogger(__name__)

COMPONENT = "latentry-operator"
WINDOW_SECONDS = 600.0
"""As in client-go's EventCorrelator: repetitions within this time are one event."""
SIMILAR = 10
"""As there: after this many messages of one reason about one object the next ones are put together."""
_REMEMBERED = 4096
_WAITING = 10_000
_LONGEST_MESSAGE = 1024
"""The API server refuses longer ones."""


@dataclass(frozen=True, slots=True)
class Happening:
    """What to tell about an object."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(slots=True)
class _Told:
    name: str
    count: int
    at: float


@dataclass(slots=True)
class _Group:
    messages: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=SIMILAR + 1))


class EventRecorder:
    """``tell`` returns at once; ``run`` writes."""

    def __init__(
        self, client: Client, *, instance: str, now: Callable[[], datetime], clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._instance = instance
        self._now = now
        self._clock = clock
        self._told: OrderedDict[tuple[str, ...], _Told] = OrderedDict()
        self._groups: OrderedDict[tuple[str, str], _Group] = OrderedDict()
        self._queue: asyncio.Queue[tuple[Kind, Stored, Happening]] = asyncio.Queue(_WAITING)

    def tell(self, kind: Kind, about: Stored, happening: Happening) -> None:
        """Queue an event; with too many waiting, this one is lost."""
        try:
            self._queue.put_nowait((kind, about, happening))
        except asyncio.QueueFull:
            log.warning("too many events are waiting, one is lost", extra={"reason": happening.reason})

    async def run(self) -> None:
        """Write events until cancelled."""
        while True:
            kind, about, happening = await self._queue.get()
            try:
                await self._write(kind, about, self._combined(about, happening))
            except KubeError as error:
                log.warning("event is lost", extra={"reason": happening.reason, "error": str(error)})
            finally:
                self._queue.task_done()

    async def flush(self) -> None:
        """Wait until everything told so far is written; ``run`` must be running."""
        await self._queue.join()

    def _combined(self, about: Stored, happening: Happening) -> Happening:
        group = self._groups.setdefault((about.uid, happening.reason), _Group())
        self._groups.move_to_end((about.uid, happening.reason))
        _bound(self._groups)
        recent = {message for at, message in group.messages if self._clock() - at < WINDOW_SECONDS}
        if happening.message not in recent:
            group.messages.append((self._clock(), happening.message))
        if len(recent | {happening.message}) <= SIMILAR:
            return happening
        return Happening(happening.type, happening.reason, "(many alike, this is one of the latest; see the status)")

    async def _write(self, kind: Kind, about: Stored, happening: Happening) -> None:
        identity = (about.uid, happening.type, happening.reason, happening.message)
        told = self._told.get(identity)
        stamp = _stamp(self._now())
        namespace = about.key[0] or "default"
        if told is not None and self._clock() - told.at < WINDOW_SECONDS:
            told.count += 1
            told.at = self._clock()
            await self._client.merge(EVENT, (namespace, told.name), {"count": told.count, "lastTimestamp": stamp})
            return
        name = f"{about.key[1]}.{uuid.uuid4().hex[:16]}"
        self._told[identity] = _Told(name, 1, self._clock())
        self._told.move_to_end(identity)
        _bound(self._told)
        await self._client.create(EVENT, self._body(kind, about, happening, namespace, name, stamp))

    def _body(self, kind: Kind, about: Stored, happening: Happening, namespace: str, name: str, stamp: str) -> Obj:
        involved = {"apiVersion": kind.api_version, "kind": kind.name, "name": about.key[1], "uid": about.uid}
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": involved | ({"namespace": about.key[0]} if about.key[0] else {}),
            "type": happening.type,
            "reason": happening.reason,
            "message": happening.message[:_LONGEST_MESSAGE],
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }


def _bound(remembered: OrderedDict[tuple[str, ...], _Told] | OrderedDict[tuple[str, str], _Group]) -> None:
    while len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)


def _stamp(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
