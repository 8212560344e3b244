"""Calls to the API server: time-outs, a rate limit, retries with jittered back-off, one observer for every call."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from latentry_operator.kube.connection import Connection
from latentry_operator.kube.errors import KubeError, NotFound, Unreachable, refusal
from latentry_operator.kube.kinds import Key, Kind, Obj

JSON, APPLY, MERGE = "application/json", "application/apply-patch+yaml", "application/merge-patch+json"
MANAGER = "latentry"
"""Our field manager."""
PAGE = 100
"""Objects in one answer to a list."""

CallObserver = Callable[[str, str, str, float], None]
"""(verb, kind, HTTP status or ``unreachable``, seconds)."""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Limits of the client.

    Attributes:
        timeout: of one attempt, seconds.
        calls_per_second: sustained rate of calls, watches and leader election aside.
        burst: calls that may be made at once after a pause.
        attempts: how often a call is tried when the server is overloaded, failing or silent.
        first_backoff: pause after the first failed attempt, seconds; doubles with each, plus or minus half.
        longest_backoff: largest pause, seconds.
    """

    timeout: float = 30.0
    calls_per_second: float = 500.0
    burst: int = 500
    attempts: int = 4
    first_backoff: float = 0.2
    longest_backoff: float = 10.0


class RateLimit:
    """A token bucket: ``await take()`` returns when one more call is within the rate."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float]) -> None:
        self._interval = 1.0 / per_second
        self._slack = burst * self._interval
        self._clock = clock
        self._next = clock() - self._slack

    async def take(self) -> None:
        """Wait for this call's turn."""
        now = self._clock()
        self._next = max(self._next, now - self._slack) + self._interval
        if self._next > now:
            await asyncio.sleep(self._next - now)


def backoff(attempt: int, first: float, longest: float) -> float:
    """Pause before the attempt after number ``attempt`` (from 1), seconds: doubling, jittered by half either way."""
    return min(longest, first * 2.0 ** min(attempt - 1, 30)) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret


class Client:
    """Requests as plain JSON objects. Every method raises KubeError."""

    def __init__(
        self,
        connection: Connection,
        settings: ClientSettings,
        observe: CallObserver,
        clock: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._observe = observe
        self._clock = clock
        self._limit = RateLimit(settings.calls_per_second, settings.burst, clock)

    async def get(self, kind: Kind, key: Key, *, urgent: bool = False) -> Obj | None:
        """The object, or None where there is none."""
        try:
            return await self._call("get", kind, "GET", kind.path(*key), urgent=urgent)
        except NotFound:
            return None

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = "", start: str = "", limit: int = PAGE
    ) -> Obj:
        """One page: ``items``, ``metadata.resourceVersion`` and, before the last page, ``metadata.continue``."""
        params = {"limit": str(limit)}
        params |= {"labelSelector": selector} if selector else {}
        params |= {"continue": start} if start else {}
        return await self._call("list", kind, "GET", kind.path(namespace), params)

    async def uid(self, kind: Kind, key: Key) -> str | None:
        """The object's uid as it is now, None where there is none; a list, for kinds that we may list but not get."""
        params = {"fieldSelector": f"metadata.name={key[1]}"}
        found = await self._call("list", kind, "GET", kind.path(key[0]), params)
        return next((str(item["metadata"]["uid"]) for item in found["items"]), None)

    async def apply(self, kind: Kind, obj: Obj, *, force: bool, subresource: str = "", dry_run: bool = False) -> Obj:
        """Server-side apply of an object, or of a subresource of it.

        Raises:
            Conflict: without ``force``, another manager owns a field that would change; or resourceVersion is old.
        """
        metadata = obj["metadata"]
        path = kind.path(metadata.get("namespace"), metadata["name"]) + (f"/{subresource}" if subresource else "")
        params = {"fieldManager": MANAGER, "force": str(force).lower()} | ({"dryRun": "All"} if dry_run else {})
        return await self._call("apply", kind, "PATCH", path, params, obj, APPLY)

    async def create(self, kind: Kind, obj: Obj, *, urgent: bool = False) -> Obj:
        """A new object. Raises Conflict where there is one of that name."""
        path = kind.path(obj["metadata"].get("namespace"))
        return await self._call("create", kind, "POST", path, {"fieldManager": MANAGER}, obj, urgent=urgent)

    async def replace(self, kind: Kind, obj: Obj, *, urgent: bool = False) -> Obj:
        """The whole object anew. Raises Conflict where its resourceVersion is not the newest."""
        metadata = obj["metadata"]
        path = kind.path(metadata.get("namespace"), metadata["name"])
        return await self._call("update", kind, "PUT", path, {"fieldManager": MANAGER}, obj, urgent=urgent)

    async def merge(self, kind: Kind, key: Key, change: Obj) -> Obj:
        """JSON merge patch."""
        return await self._call("patch", kind, "PATCH", kind.path(*key), {"fieldManager": MANAGER}, change, MERGE)

    async def delete(self, kind: Kind, key: Key, uid: str) -> None:
        """Delete this very object, its dependants in the background; one that is gone already is no error."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._call("delete", kind, "DELETE", kind.path(*key), {}, options)
        except KubeError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def discover(self, path: str) -> Obj | None:
        """A discovery document such as ``/apis``; None where the path is not served."""
        try:
            return await self._call("get", "discovery", "GET", path)
        except NotFound:
            return None

    async def watch(
        self, kind: Kind, namespace: str | None, selector: str, version: str, *, seconds: int, silence: float
    ) -> AsyncIterator[bytes]:
        """Lines of a watch from ``version``, bookmarks included, until the server ends it.

        Args:
            seconds: when the server shall end it.
            silence: after this long without a byte the connection counts as dead, seconds.
        """
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        } | ({"labelSelector": selector} if selector else {})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._settings.timeout, sock_read=silence)
        started = self._clock()
        status = "unreachable"
        try:
            response = await self._send("GET", kind.path(namespace), params, None, JSON, timeout)
            status = str(response.status)
            self._observe("watch", kind.name, status, self._clock() - started)
            async with response:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise refusal(response.status, await response.read(), response.headers)
                async for line in _lines(response.content):
                    yield line
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if status == "unreachable":
                self._observe("watch", kind.name, status, self._clock() - started)
            raise Unreachable(f"{kind.name}: {type(error).__name__}: {error}") from error

    async def _call(
        self,
        verb: str,
        kind: Kind | str,
        method: str,
        path: str,
        params: dict[str, str] | None = None,
        body: Obj | None = None,
        content_type: str = JSON,
        *,
        urgent: bool = False,
    ) -> Obj:
        """One call, tried again while that may help; ``urgent`` ones neither wait for their turn nor try again."""
        payload = None if body is None else orjson.dumps(body)
        name = kind if isinstance(kind, str) else kind.name
        attempts = 1 if urgent else self._settings.attempts
        for attempt in range(1, attempts + 1):
            if not urgent:
                await self._limit.take()
            try:
                return await self._attempt(verb, name, method, path, params or {}, payload, content_type)
            except KubeError as error:
                if error.status == HTTPStatus.UNAUTHORIZED and attempt == 1 and attempts > 1:
                    await self._connection.open()
                    continue
                if not error.transient or attempt == attempts:
                    raise
                pause = backoff(attempt, self._settings.first_backoff, self._settings.longest_backoff)
                await asyncio.sleep(max(pause, error.retry_after or 0.0))
        raise AssertionError("attempts is at least 1")

    async def _attempt(
        self,
        verb: str,
        kind: str,
        method: str,
        path: str,
        params: dict[str, str],
        body: bytes | None,
        content_type: str,
    ) -> Obj:
        started = self._clock()
        status = "unreachable"
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout)
        try:
            response = await self._send(method, path, params, body, content_type, timeout)
            async with response:
                content = await response.read()
                status = str(response.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{method} {path}: {type(error).__name__}: {error}") from error
        finally:
            self._observe(verb, kind, status, self._clock() - started)
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise refusal(response.status, content, response.headers)
        try:
            answer: Any = orjson.loads(content)
        except ValueError as error:
            raise Unreachable(f"{method} {path}: the answer is no JSON: {content[:200]!r}") from error
        return dict(answer)

    async def _send(
        self,
        method: str,
        path: str,
        params: dict[str, str],
        body: bytes | None,
        content_type: str,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": JSON, "User-Agent": "latentry-operator"} | ({"Content-Type": content_type} if body else {})
        return await self._connection.request(method, path, params=params, headers=headers, body=body, limits=limits)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length; aiohttp's own iteration refuses long ones."""
    rest = bytearray()
    async for chunk in stream.iter_any():
        rest += chunk
        if b"\n" not in chunk:
            continue
        *lines, tail = bytes(rest).split(b"\n")
        rest = bytearray(tail)
        for line in lines:
            if line:
                yield line
