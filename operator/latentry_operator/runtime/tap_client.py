"""Reads one tap's `/summary`, and trusts nothing about who answers: bounded in size and time, no redirects, typed."""

from http import HTTPStatus
from typing import Any

import aiohttp
from pydantic import ValidationError

from latentry_operator.runtime.web import TooLarge, WebClient
from latentry_serving.contract.tap_summary import TapSummary

MOST_BYTES = 256 * 1024
"""A summary is a few kilobytes; more than this is none."""
KEPT_SECONDS = 70.0
"""How long an idle connection is kept; the tap closes it after 75 s."""
_CONNECT_SHARE = 0.5
"""Of the time-out, for the connection: a pod that a NetworkPolicy hides swallows packets."""


class TapSilent(Exception):
    """No usable answer; the text says why in a few words that are the same each time."""


class TapClient(WebClient):
    """Use it with ``async with``. Connections are kept, as Prometheus keeps them: a new one for each call costs five
    times the call's CPU."""

    def __init__(self, *, timeout_seconds: float) -> None:
        super().__init__()
        self._timeout_seconds = timeout_seconds

    def _options(self) -> dict[str, Any]:
        connect_seconds = self._timeout_seconds * _CONNECT_SHARE
        return {
            "connector": aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS),
            "timeout": aiohttp.ClientTimeout(total=self._timeout_seconds, sock_connect=connect_seconds),
            "headers": {"Accept-Encoding": "identity"},
            "auto_decompress": False,
        }

    async def summary(self, host: str, port: int) -> TapSummary:
        """What the tap says now.

        Raises:
            TapSilent: it does not answer, or not as a tap.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            status, body = await self._fetch("GET", f"http://{address}/summary", most_bytes=MOST_BYTES)
        except TooLarge as error:
            raise TapSilent(f"{address} answers with more than {MOST_BYTES} bytes") from error
        except TimeoutError as error:
            words = f"no answer from {address} in {self._timeout_seconds:g} s; may the operator reach that port?"
            raise TapSilent(words) from error
        except aiohttp.ClientConnectorError as error:
            raise TapSilent(f"{address}: {(error.strerror or str(error)).lower()}") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise TapSilent(f"{address} broke off or speaks no HTTP: {type(error).__name__}") from error
        if status != HTTPStatus.OK:
            raise TapSilent(f"{address} answers with HTTP {status}")
        try:
            return TapSummary.model_validate_json(body)
        except ValidationError as error:
            raise TapSilent(f"{address} answers with what is no tap's summary") from error
