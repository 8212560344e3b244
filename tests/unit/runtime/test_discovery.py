"""Which kinds count as served, against a scripted server: an API server that starts, a CRD that is removed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from latentry_operator.kube.cache import Cache, Listeners
from latentry_operator.kube.client import Client
from latentry_operator.kube.kinds import (
    AUTOSCALER_V2,
    AUTOSCALER_V2BETA2,
    CHILDREN,
    GPU_POOL,
    INFERENCE_SERVICE,
    LATENT_MODEL,
    POD,
    SERVING_RUNTIME,
)

KINDS = (LATENT_MODEL, GPU_POOL, POD, *CHILDREN)
SYNC_SECONDS = 20


class Server:
    """Serves empty lists of all kinds, and watches that last; ``named`` are the API versions discovery knows."""

    def __init__(self) -> None:
        self.named = {kind.root for kind in KINDS}
        self.gone: set[str] = set()
        self.rounds = 0
        self.broken = asyncio.Event()
        self.heard = asyncio.Condition()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path.rsplit("/", 1)[-1] in {kind.api_version.rsplit("/", 1)[-1] for kind in KINDS}:
            async with self.heard:
                self.rounds += path == LATENT_MODEL.root
                self.heard.notify_all()
            names = [{"name": kind.plural} for kind in KINDS if kind.root == path]
            return web.json_response({"resources": names}, status=200 if path in self.named else 404)
        if path in self.gone:
            return web.json_response({}, status=404)
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        response = web.StreamResponse()
        await response.prepare(request)
        await self.broken.wait()
        return response

    async def after_rounds(self, count: int) -> None:
        """Return when discovery has asked that often from now on."""
        until = self.rounds + count
        async with asyncio.timeout(SYNC_SECONDS), self.heard:
            await self.heard.wait_for(lambda: self.rounds >= until)


async def watched(script: Any, client: Client, test: Callable[[Server, Cache, list[Any]], Awaitable[None]]) -> None:
    """Runs ``test`` beside a cache; its list has what was served at each change of kinds."""
    server, told = Server(), []
    script.answers.append(server)
    listeners = Listeners(
        model=lambda _: None, touched=lambda _: None, pool=lambda _: None, kinds=lambda: told.append(cache.served)
    )
    cache = Cache(client, namespace=None, discovery_seconds=0.01, listeners=listeners)
    running = asyncio.create_task(cache.run())
    try:
        await asyncio.wait_for(cache.wait_synced(), SYNC_SECONDS)
        await test(server, cache, told)
    finally:
        server.broken.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_kind_that_is_watched_is_served_although_discovery_does_not_name_it(
    script: Any, client: Client
) -> None:
    async def test(server: Server, cache: Cache, told: list[Any]) -> None:
        assert INFERENCE_SERVICE in cache.served
        server.named -= {INFERENCE_SERVICE.root, SERVING_RUNTIME.root, LATENT_MODEL.root}
        await server.after_rounds(4)
        assert INFERENCE_SERVICE in cache.served
        assert len(told) == 1

    await watched(script, client, test)


async def test_a_kind_that_is_removed_is_not_served(script: Any, client: Client) -> None:
    async def test(server: Server, cache: Cache, told: list[Any]) -> None:
        server.named.discard(INFERENCE_SERVICE.root)
        server.gone.add(INFERENCE_SERVICE.path())
        server.broken.set()
        async with asyncio.timeout(SYNC_SECONDS):
            while len(told) < 2:
                await server.after_rounds(1)
        assert told[0] - told[1] == {INFERENCE_SERVICE}

    await watched(script, client, test)


async def test_of_two_versions_the_preferred_one_is_served(script: Any, client: Client) -> None:
    async def test(server: Server, cache: Cache, told: list[Any]) -> None:
        assert {AUTOSCALER_V2, AUTOSCALER_V2BETA2} & cache.served == {AUTOSCALER_V2}

    await watched(script, client, test)
