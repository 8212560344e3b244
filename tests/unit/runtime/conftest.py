"""A scripted HTTP server in the API server's place: for what a healthy one never does."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from latentry_operator.kube.client import Client, ClientSettings
from latentry_operator.kube.connection import Connection

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Scripted:
    """Answers requests from a list, in order; the last answer repeats."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.answers: list[Answer] = []
        self.calls: list[tuple[str, str, str]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)

    def then(self, status: int = 200, body: Any = None, **headers: str) -> "Scripted":
        """One JSON answer, or a text's bytes as they are."""

        async def answer(_: web.Request) -> web.StreamResponse:
            if isinstance(body, str):
                return web.Response(status=status, text=body, headers=headers)
            return web.json_response(body or {}, status=status, headers=headers)

        self.answers.append(answer)
        return self

    def then_stream(self, *chunks: bytes) -> "Scripted":
        """One watch: these bytes, then its end."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for chunk in chunks:
                await response.write(chunk)
            return response

        self.answers.append(answer)
        return self

    def then_hang_up(self) -> "Scripted":
        """One connection closed without an answer."""

        async def answer(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.close()
            return web.Response()

        self.answers.append(answer)
        return self


@pytest.fixture
async def scripted() -> AsyncIterator[tuple[Scripted, str]]:
    """The script and the server's URL."""
    script = Scripted()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield script, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def script(scripted: tuple[Scripted, str]) -> Scripted:
    """What the server answers."""
    return scripted[0]


@pytest.fixture
async def client(scripted: tuple[Scripted, str], tmp_path: Path) -> AsyncIterator[Client]:
    """A client of the scripted server, through a kubeconfig file; its clock stands still and its pauses are none."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": scripted[1]}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    connection = Connection(path, None, 32)
    await connection.open()
    settings = ClientSettings(first_backoff=1e-6, longest_backoff=1e-6, attempts=3, burst=1000)
    yield Client(
        connection, settings, lambda verb, kind, code, _: scripted[0].calls.append((verb, kind, code)), lambda: 0.0
    )
    await connection.close()
