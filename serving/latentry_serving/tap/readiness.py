"""Whether clients should be sent here, and if not, why."""

import asyncio
from collections.abc import Callable

from latentry_serving.contract.tap_config import Address
from latentry_serving.tap.http1_heads import parse_response_head
from latentry_serving.tap.observation import SightLost

_REQUEST = b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_ANSWER_SECONDS = 2.0


class Readiness:
    """Ready means: listening, not draining, Triton says it is ready, and nothing speaks against the bundle."""

    def __init__(
        self, triton_http: Address, listening: Callable[[], bool], bundle: Callable[[], list[str]] = list
    ) -> None:
        """
        Args:
            bundle: what speaks against serving the bundle; nothing without one.
        """
        self._triton = triton_http
        self._listening = listening
        self._bundle = bundle
        self.draining = False

    async def reasons(self) -> list[str]:
        """Why the tap is not ready; empty when it is."""
        if self.draining:
            return ["draining: the tap is stopping"]
        if not self._listening():
            return ["not listening yet"]
        problem = await self._triton_problem()
        return [*([problem] if problem else []), *self._bundle()]

    async def _triton_problem(self) -> str | None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                status = await self._ask()
        except TimeoutError:
            return f"Triton at {self._triton} did not answer within {_ANSWER_SECONDS:g} s"
        except (OSError, EOFError, SightLost, asyncio.LimitOverrunError) as error:
            return f"Triton at {self._triton} is not reachable: {error}"
        return None if status == 200 else f"Triton at {self._triton} is not ready: HTTP status {status}"

    async def _ask(self) -> int:
        reader, writer = await asyncio.open_connection(self._triton.host, self._triton.port)
        try:
            writer.write(_REQUEST)
            return parse_response_head(await reader.readuntil(b"\r\n\r\n")).status
        finally:
            writer.close()
