"""Instant queries to Prometheus' HTTP API (https://prometheus.io/docs/prometheus/latest/querying/api/), typed.

::

    PrometheusError          the query gave no answer that can be used
    ├── Unreachable          no connection, a time-out, or something that is not Prometheus' API
    ├── Refused              Prometheus answers, but not to this query: it is wrong, too slow or too large
    └── NoData               it answers that there is nothing: not zero, and never a pass
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from latentry_operator.runtime.web import TooLarge, WebClient

MOST_BYTES = 32 * 2**20
"""Of an answer; three objectives of a thousand models are below one megabyte."""
_LONGEST_WORDS = 300


class PrometheusError(Exception):
    """Why there is no answer, as a sentence that stays the same while the cause does."""


class Unreachable(PrometheusError):
    """No connection, a time-out, or no Prometheus."""


class Refused(PrometheusError):
    """Prometheus would not answer this query; its words."""


class NoData(PrometheusError):
    """The query matches no series, or its value is not a number (0 divided by 0)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value.

    Attributes:
        labels: without ``__name__``.
        value: may be NaN or infinite.
        unix_seconds: when it was evaluated.
    """

    labels: Mapping[str, str]
    value: float
    unix_seconds: float


class Prometheus(WebClient):
    """Use it with ``async with``.

    Args:
        url: of Prometheus or of what speaks its API (Thanos, Mimir, VictoriaMetrics), with any path prefix.
    """

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        super().__init__()
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._host = url
        self._timeout_seconds = timeout_seconds

    def _options(self) -> dict[str, Any]:
        return {"timeout": aiohttp.ClientTimeout(total=self._timeout_seconds)}

    async def series(self, query: str) -> tuple[Sample, ...]:
        """Every series of an instant query's answer; none is no error. A scalar is one series without labels.

        Raises:
            Unreachable, Refused: see there.
        """
        answer = await self._ask(query)
        try:
            data = answer["data"]
            if data["resultType"] == "scalar":
                return (_sample({}, data["result"]),)
            if data["resultType"] != "vector":
                raise Refused(
                    f"the query gives a {data['resultType']}; write one that gives an instant vector: {query}"
                )
            return tuple(_sample(entry["metric"], entry["value"]) for entry in data["result"])
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(f"the query gives what is no number, such as a histogram: {query}") from error

    async def value(self, query: str) -> float:
        """The one number of an instant query.

        Raises:
            NoData: no series, or NaN.
            Unreachable, Refused: see there; several series are a Refused.
        """
        found = await self.series(query)
        if not found or math.isnan(found[0].value):
            raise NoData(f"{'no series' if not found else 'not a number'}: {query}")
        if len(found) > 1:
            raise Refused(
                f"the query gives {len(found)} series; aggregate them to one, for example with max(): {query}"
            )
        return found[0].value

    async def _ask(self, query: str) -> dict[str, Any]:
        form = {"query": query, "timeout": f"{self._timeout_seconds:g}s"}
        try:
            status, body = await self._fetch("POST", self._url, most_bytes=MOST_BYTES, data=form)
        except TooLarge as error:
            raise Refused(f"{self._host} answers with more than {MOST_BYTES // 2**20} MiB") from error
        except TimeoutError as error:
            raise Unreachable(f"no answer from {self._host} in {self._timeout_seconds:g} s") from error
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL, OSError) as error:
            words = getattr(error, "strerror", None) or type(error).__name__
            raise Unreachable(f"{self._host}: {words}; check cluster.prometheusUrl") from error
        except aiohttp.ClientError as error:
            raise Unreachable(f"{self._host} broke off: {type(error).__name__}") from error
        return self._understood(status, body)

    def _understood(self, status: int, body: bytes) -> dict[str, Any]:
        try:
            answer = orjson.loads(body)
            said = answer["status"]
        except (ValueError, KeyError, TypeError) as error:
            raise Unreachable(f"{self._host} is no Prometheus: HTTP {status}; check cluster.prometheusUrl") from error
        if said == "success" and status == HTTPStatus.OK:
            return dict(answer)
        words = f"{answer.get('errorType', 'error')}: {answer.get('error', f'HTTP {status}')}"
        raise Refused(f"{self._host}: {words[:_LONGEST_WORDS]}")


def _sample(labels: Mapping[str, str], pair: Any) -> Sample:
    at, value = pair
    return Sample({name: text for name, text in labels.items() if name != "__name__"}, float(value), float(at))
