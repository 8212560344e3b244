"""Leader election on a Lease (coordination.k8s.io/v1), as client-go does it.

A candidate trusts no other machine's clock: it takes the Lease over once it has seen no change of it for as long as the
holder promised, by its own clock. A holder gives up before that time is over.
Source: k8s.io/client-go/tools/leaderelection.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from latentry_operator.kube.client import Client
from latentry_operator.kube.errors import Conflict, KubeError
from latentry_operator.kube.kinds import LEASE, Key, Obj

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Times of the election, seconds; the defaults are those of Kubernetes' own controllers.

    Attributes:
        duration: how long a holder that is not heard of keeps the lead.
        renew_deadline: after this long without a renewal the holder stops acting; less than ``duration``.
        retry: pause between attempts.
    """

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry: float = 2.0


class Election:
    """One candidate: ``await win()``, act while ``await hold()`` has not returned, ``await release()``."""

    def __init__(
        self,
        client: Client,
        key: Key,
        identity: str,
        settings: LeaseSettings,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._key = key
        self._identity = identity
        self._settings = settings
        self._clock = clock
        self._now = now
        self._seen: tuple[str, float] = ("", clock())
        self._renewed = clock()

    async def win(self) -> None:
        """Return once we lead."""
        while not await self._attempt():  # noqa: ASYNC110 - it asks a server
            await asyncio.sleep(self._settings.retry * random.uniform(1.0, 1.2))  # noqa: S311 - no secret

    async def hold(self) -> None:
        """Renew; return when the lead is lost, or may be."""
        while True:
            await asyncio.sleep(self._settings.retry)
            if await self._attempt():
                continue
            if self._clock() - self._renewed >= self._settings.renew_deadline - self._settings.retry:
                return

    async def release(self) -> None:
        """Let another candidate take over at once; best effort."""
        try:
            async with asyncio.timeout(self._settings.retry):
                lease = await self._client.get(LEASE, self._key, urgent=True)
                if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._client.replace(LEASE, lease, urgent=True)
        except (KubeError, TimeoutError) as error:
            log.warning("the lease was not released; it runs out by itself", extra={"error": str(error)})

    async def _attempt(self) -> bool:
        """Take or renew the Lease; whether we lead now."""
        started = self._clock()
        try:
            async with asyncio.timeout(self._settings.retry):
                lease = await self._client.get(LEASE, self._key, urgent=True)
                if lease is None:
                    await self._client.create(LEASE, self._lease({}), urgent=True)
                elif self._may_take(lease):
                    await self._client.replace(LEASE, self._lease(lease), urgent=True)
                else:
                    return False
        except Conflict:
            return False  # another candidate was quicker
        except (KubeError, TimeoutError) as error:
            log.warning("no lease", extra={"error": str(error) or type(error).__name__})
            return False
        # What counts is when we asked: others may count from any moment after that.
        self._renewed = started
        return True

    def _may_take(self, lease: Obj) -> bool:
        spec = lease.get("spec") or {}
        holder, version = spec.get("holderIdentity"), lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, self._clock())
        if not holder or holder == self._identity:
            return True
        return self._clock() - self._seen[1] >= float(spec.get("leaseDurationSeconds") or self._settings.duration)

    def _lease(self, live: Obj) -> Obj:
        spec: dict[str, Any] = dict(live.get("spec") or {})
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if spec.get("holderIdentity") != self._identity:
            spec |= {"acquireTime": stamp, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + bool(live)}
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._settings.duration),
            "renewTime": stamp,
        }
        metadata = live.get("metadata") or {"namespace": self._key[0], "name": self._key[1]}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": metadata, "spec": spec}
