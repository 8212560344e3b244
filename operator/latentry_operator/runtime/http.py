"""The operator's HTTP endpoint: /healthz (the process acts), /readyz (the cluster has been seen), /metrics."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from latentry_serving.contract.errors import OperationFailed


@asynccontextmanager
async def serve_http(
    host: str, port: int, registry: CollectorRegistry, healthy: Callable[[], str], ready: Callable[[], str]
) -> AsyncIterator[int]:
    """Serve while the context lasts; gives the port.

    Args:
        healthy, ready: why not, or an empty text.

    Raises:
        OperationFailed: the port cannot be had.
    """

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    def answer(problem: Callable[[], str]) -> Callable[[web.Request], object]:
        async def handle(_: web.Request) -> web.Response:
            found = problem()
            return web.Response(text=f"{found or 'ok'}\n", status=503 if found else 200)

        return handle

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", answer(healthy))  # type: ignore[arg-type]
    app.router.add_get("/readyz", answer(ready))  # type: ignore[arg-type]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise OperationFailed(
                f"cannot listen on {host}:{port}: {error.strerror}", remedy="choose another http.port"
            ) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
