"""A proxy before the API server that fails and delays calls on purpose; TLS towards the server, plain before it."""

import asyncio
import json
import random
import ssl
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import aiohttp
import yaml
from aiohttp import web

from kube.control_plane import ControlPlane
from kube.pki import trusting

Fault = Literal["429", "500", "409", "reset", "lost", "delay"]
FAULTS: tuple[Fault, ...] = ("429", "500", "409", "reset", "lost", "delay")
"""Refused with that status; cut before the server has seen the call; cut after it, so that the answer is lost; late."""
_HOP = {"connection", "content-encoding", "content-length", "host", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class FaultPlan:
    """How often and how.

    Attributes:
        share: of the calls that get a fault, 0 to 1; watches that began are cut with it too.
        delay: of a late call, seconds.
        seed: equal ones give the same sequence of faults.
    """

    share: float
    delay: float
    seed: int


class FaultProxy:
    """Use it with ``async with``; ``kubeconfig`` points at it. ``told`` counts the faults given."""

    def __init__(self, control_plane: ControlPlane, plan: FaultPlan, folder: Path, *, user: str = "operator") -> None:
        self._url, self._plan, self._user = control_plane.url, plan, user
        self._trust: ssl.SSLContext = trusting(control_plane.ca_file)
        self._random = random.Random(plan.seed)
        self.told: Counter[str] = Counter()
        self.kubeconfig = folder / "faulty.kubeconfig"

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._trust, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0]
        self.kubeconfig.write_text(yaml.safe_dump(self._config(f"http://{host}:{port}")))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def _config(self, url: str) -> dict[str, object]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "faulty",
            "clusters": [{"name": "faulty", "cluster": {"server": url}}],
            "users": [{"name": "faulty", "user": {"token": f"{self._user}-token"}}],
            "contexts": [{"name": "faulty", "context": {"cluster": "faulty", "user": "faulty"}}],
        }

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        fault = self._fault()
        if fault is not None:
            self.told[fault] += 1
        if fault in ("429", "500", "409"):
            return _refusal(int(fault))
        if fault == "delay":
            await asyncio.sleep(self._plan.delay)
        elif fault == "reset":
            return _cut(request)
        try:
            return await self._forward(request, lost=fault == "lost")
        except aiohttp.ClientError:
            return _cut(request)

    def _fault(self) -> Fault | None:
        return self._random.choice(FAULTS) if self._random.random() < self._plan.share else None

    async def _forward(self, request: web.Request, *, lost: bool) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        body = await request.read()
        async with self._session.request(
            request.method, f"{self._url}{request.raw_path}", headers=headers, data=body or None
        ) as answer:
            watching = "watch" in request.query
            if lost and not watching:
                await answer.read()
                return _cut(request)
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
                if lost:
                    return _cut(request)  # a watch that broke after some events
            await response.write_eof()
            return response


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _refusal(status: int) -> web.Response:
    reason = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError"}[status]
    body = {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": "made to fail"}
    headers = {"Retry-After": "1"} if status == web.HTTPTooManyRequests.status_code else {}
    return web.Response(status=status, text=json.dumps(body), content_type="application/json", headers=headers)
