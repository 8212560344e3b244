"""Routes of the page for whatever serves it: the document at ``/``, its files and what there is to look at below
``/page/``. Everything it loads, and every address it asks, is of its own origin: the headers leave it no other."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter, HTTPException, Request, Response

from latentry_serving.contract.page import PageModels
from latentry_serving.page import asset

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "LICENSE": "text/plain; charset=utf-8",
}
_INDEX = "index.html"
_SCRIPTS = ("page", "charts", "dom", "drift", "format", "health", "latency", "poll", "serving", "theme", "traffic")
FILES = (
    _INDEX,
    "icon.svg",
    "page.css",
    "tokens.css",
    *(f"{name}.js" for name in _SCRIPTS),
    "vendor/uPlot.LICENSE",
    "vendor/uPlot.iife.min.js",
    "vendor/uPlot.min.css",
)
SECURITY: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    headers: Mapping[str, str]

    @classmethod
    def read(cls, name: str) -> "_File":
        body = asset(name).read_bytes()
        headers = {
            "content-type": _TYPES[name.rsplit(".", 1)[1]],
            "etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
            "cache-control": "no-cache",  # kept, but asked about: an upgrade shows at the next load
        }
        return cls(body, {**headers, **SECURITY})

    def answer(self, request: Request) -> Response:
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if self.headers["etag"] in known:
            return Response(status_code=304, headers=dict(self.headers))
        return Response(self.body, headers=dict(self.headers))


def page_router(models: Callable[[], Awaitable[PageModels]]) -> APIRouter:
    """The page.

    Args:
        models: what there is to look at now.
    """
    router = APIRouter(include_in_schema=False)
    served = {name: _File.read(name) for name in FILES}

    @router.get("/")
    async def index(request: Request) -> Response:
        return served[_INDEX].answer(request)

    @router.get("/page/models", response_model_by_alias=True)
    async def read_models(response: Response) -> PageModels:
        response.headers["cache-control"] = "no-store"
        return await models()

    @router.get("/page/{name:path}")
    async def file(name: str, request: Request) -> Response:
        if name == _INDEX or name not in served:
            raise HTTPException(404)
        return served[name].answer(request)

    return router
