"""The few management calls readiness and status need, over HTTP. Inference goes through tritonclient or the tap."""

from types import TracebackType
from typing import Any, Self

import httpx

from latentry_serving.contract.errors import OperationFailed
from latentry_serving.contract.tap_config import Address


class TritonClient:
    """Health, metadata and statistics of one Triton. Protocol: Open Inference Protocol v2, REST, with Triton's
    statistics extension."""

    def __init__(self, address: Address, *, timeout_seconds: float = 5.0) -> None:
        # Loopback: a proxy from the environment has no business here.
        self._http = httpx.AsyncClient(base_url=f"http://{address}", timeout=timeout_seconds, trust_env=False)
        self._address = address

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def is_ready(self, *, server_id: str | None = None) -> bool:
        """Whether the server and all its models are ready; with ``server_id``, that it is that very server."""
        try:
            if server_id is not None and (await self.server_metadata())["name"] != server_id:
                return False
            return (await self._http.get("/v2/health/ready")).status_code == httpx.codes.OK
        except (httpx.TransportError, OperationFailed):
            return False

    async def serves_metrics(self) -> bool:
        """Whether the address is that of Triton's metrics."""
        try:
            return "nv_inference" in (await self._http.get("/metrics")).text
        except httpx.TransportError:
            return False

    async def server_metadata(self) -> dict[str, Any]:
        """``name``, ``version`` and ``extensions``."""
        return await self._get("/v2")

    async def model_metadata(self, model: str) -> dict[str, Any]:
        """``name``, ``versions``, ``platform``, ``inputs`` and ``outputs``."""
        return await self._get(f"/v2/models/{model}")

    async def statistics(self) -> list[dict[str, Any]]:
        """Cumulative counts and durations (nanoseconds) of every model."""
        entries: list[dict[str, Any]] = (await self._get("/v2/models/stats"))["model_stats"]
        return entries

    async def _get(self, path: str) -> dict[str, Any]:
        try:
            response = await self._http.get(path)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise OperationFailed(
                f"Triton at {self._address} did not answer {path}: {error}",
                remedy="check that the server is running and look at its log",
            ) from error
        body: dict[str, Any] = response.json()
        return body
