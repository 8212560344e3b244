"""The page of `latentry up`: every local model on one port, each tap read through it, so that a browser has one origin.

It runs in a thread with a loop of its own: uvicorn would take the signals that end `latentry up`.
"""

import socket
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from latentry_operator.local.snapshot import Phase, RolloutView, Snapshot
from latentry_serving.contract.errors import OperationFailed
from latentry_serving.contract.page import PageModel, PageModels, PageRollout, PageSource, TapDocument
from latentry_serving.contract.tap_config import Address
from latentry_serving.page.routes import page_router

_READ = frozenset({*TapDocument, "metrics"})
_ANSWERING = (Phase.READY, Phase.RESTARTING)
_PATIENCE_SECONDS = 5.0
_HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""A page of another site that resolves its own name to this machine gets nothing."""

Snapshots = Callable[[], Sequence[Snapshot]]


def page_app(snapshots: Snapshots) -> FastAPI:
    """The page as an ASGI application.

    Args:
        snapshots: how the models stand now; called from this application's thread.
    """
    app = FastAPI(title="latentry up", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(_HOSTS))
    client = httpx.AsyncClient(timeout=_PATIENCE_SECONDS, trust_env=False)

    async def models() -> PageModels:
        return PageModels(source=PageSource.UP, models=[_model(snapshot) for snapshot in snapshots()])

    async def fetch(name: str, document: str, request: Request) -> Response:
        addresses = next((s.addresses for s in snapshots() if s.name == name), None)
        if addresses is None or not addresses.admin:
            raise HTTPException(404)
        try:
            answer = await client.get(f"http://{addresses.admin}/{document}", params=request.query_params)
        except httpx.HTTPError as error:
            raise HTTPException(502, f"the tap of {name} does not answer ({type(error).__name__})") from error
        kept = {key: answer.headers[key] for key in ("content-type",) if key in answer.headers}
        return Response(answer.content, answer.status_code, {**kept, "cache-control": "no-store"})

    @app.get("/models/{name}/{document}")
    async def read(name: str, document: str, request: Request) -> Response:
        if document not in _READ:
            raise HTTPException(404)
        return await fetch(name, document, request)

    @app.get("/models/{name}/metrics/triton")
    async def read_triton(name: str, request: Request) -> Response:
        return await fetch(name, "metrics/triton", request)

    app.include_router(page_router(models))
    return app


def _model(snapshot: Snapshot) -> PageModel:
    where, message = snapshot.addresses, snapshot.message
    if where is not None and snapshot.phase is Phase.READY:
        message = f"HTTP {where.http}, gRPC {where.grpc}"
    return PageModel(
        name=snapshot.name,
        version=snapshot.version,
        api=f"models/{snapshot.name}/",
        documents=list(TapDocument) if snapshot.phase in _ANSWERING else [],
        phase=snapshot.phase,
        message=message,
        rollout=_rollout(snapshot.rollout),
    )


def _rollout(view: RolloutView | None) -> PageRollout | None:
    """What the page shows of a rollout: one that is under way, was given up or may be undone."""
    if view is None or view.stable is None:
        return None
    if view.candidate is not None:
        old, new, share = view.stable.version, view.candidate.version, view.weight / 100
    elif view.rejected_version:
        old, new, share = view.stable.version, view.rejected_version, 0.0
    elif view.previous is not None or view.edit:
        old, new, share = (view.previous or view.stable).version, view.stable.version, None
    else:
        return None
    return PageRollout(
        state="EditRefused" if view.edit else view.reason,
        message=f"The last edit of the file was refused: {view.edit}" if view.edit else view.message,
        from_version=old,
        to_version=new,
        share=share,
        since_seconds=view.since,
    )


class PageServer:
    """Serves the page while it is entered; a context manager."""

    def __init__(self, address: Address, snapshots: Snapshots) -> None:
        self._address = address
        config = uvicorn.Config(
            page_app(snapshots), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Listens.

        Raises:
            OperationFailed: the port was taken since it was chosen.
        """
        try:
            self._socket = socket.create_server((self._address.host, self._address.port))
        except OSError as error:
            raise OperationFailed(
                f"the page cannot listen on {self._address}: {error}", remedy="give another --page-port"
            ) from error
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="page", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
