"""Reads one tap's `/summary`, and trusts nothing about who answers: bounded in size and time, no redirects, typed."""

from http import HTTPStatus
from types import TracebackType
from typing import Self

import aiohttp
from pydantic import ValidationError

from latentry_operator.runtime.body import TooLarge, read_bounded
from latentry_serving.contract.tap_summary import TapSummary

MOST_BYTES = 256 * 1024
"""A summary is a few kilobytes; more than this is none."""
KEPT_SECONDS = 70.0
"""How long an idle connection is kept; the tap closes it after 75 s."""
_CONNECT_SHARE = 0.5
"""Of the time-out, for the connection: a pod that a NetworkPolicy hides swallows packets."""


class TapSilent(Exception):
    """No usable answer; the text says why in a few words that are the same each time."""


class TapClient:
    """Use it with ``async with``. Connections are kept, as Prometheus keeps them: a new one for each call costs five
    times the call's CPU."""

    def __init__(self, *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS),
            timeout=aiohttp.ClientTimeout(
                total=self._timeout_seconds, sock_connect=self._timeout_seconds * _CONNECT_SHARE
            ),
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def summary(self, host: str, port: int) -> TapSummary:
        """What the tap says now.

        Raises:
            TapSilent: it does not answer, or not as a tap.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            body = await self._read(f"http://{address}/summary")
        except TimeoutError as error:
            words = f"no answer from {address} in {self._timeout_seconds:g} s; may the operator reach that port?"
            raise TapSilent(words) from error
        except aiohttp.ClientConnectorError as error:
            raise TapSilent(f"{address}: {(error.strerror or str(error)).lower()}") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise TapSilent(f"{address} broke off or speaks no HTTP: {type(error).__name__}") from error
        try:
            return TapSummary.model_validate_json(body)
        except ValidationError as error:
            raise TapSilent(f"{address} answers with what is no tap's summary") from error

    async def _read(self, url: str) -> bytes:
        if self._session is None:
            raise RuntimeError("use TapClient with `async with`")
        async with self._session.get(url, allow_redirects=False) as answer:
            if answer.status != HTTPStatus.OK:
                raise TapSilent(f"{answer.url.host}:{answer.url.port} answers with HTTP {answer.status}")
            try:
                return await read_bounded(answer, MOST_BYTES)
            except TooLarge as error:
                words = f"{answer.url.host}:{answer.url.port} answers with more than {MOST_BYTES} bytes"
                raise TapSilent(words) from error
