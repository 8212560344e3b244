"""HTTP with servers that are not trusted: no cookies, no redirects, no proxy, bodies of a bounded size."""

from types import TracebackType
from typing import Any, Self

import aiohttp


class TooLarge(Exception):
    """More bytes than were allowed; nothing of them is kept."""


class WebClient:
    """Use it with ``async with``: its connections are kept that long."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def _options(self) -> dict[str, Any]:
        """Of ``aiohttp.ClientSession``, beside those that all have."""
        return {}

    async def __aenter__(self) -> Self:
        jar = aiohttp.DummyCookieJar()
        self._session = aiohttp.ClientSession(cookie_jar=jar, trust_env=False, **self._options())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _fetch(self, method: str, url: str, *, most_bytes: int, **request: Any) -> tuple[int, bytes]:
        """Status and whole body.

        Args:
            request: what else ``aiohttp.ClientSession.request`` takes.

        Raises:
            TooLarge: the body has more bytes than that.
            aiohttp.ClientError, TimeoutError, OSError: there is no answer, or it breaks off.
        """
        if self._session is None:
            raise RuntimeError(f"use {type(self).__name__} with `async with`")
        async with self._session.request(method, url, allow_redirects=False, **request) as answer:
            return answer.status, await _read(answer, most_bytes)


async def _read(answer: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """The whole body.

    Raises:
        TooLarge: it has more bytes than that.
        aiohttp.ClientError: the connection broke.
    """
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > most_bytes:
            raise TooLarge
    return bytes(body)
