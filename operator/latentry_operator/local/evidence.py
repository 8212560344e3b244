"""What the gates judge by, read from the taps of candidate and stable on this machine."""

import asyncio

import httpx

from latentry_operator.local.revision import LocalRevision
from latentry_operator.plan.evidence import Reading, Remembered, Replicas, look
from latentry_operator.plan.evidence_compare import compare_next
from latentry_operator.plan.rollout.facts import Evidence
from latentry_operator.plan.rollout.state import RolloutState
from latentry_operator.tap_reader import ReadFailed, carry_sample, read_evidence


class EvidenceReader:
    """Asks both taps at each look, remembers what counts began with, and has embeddings compared."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._remembered = Remembered()
        self._carrying: asyncio.Task[None] | None = None
        self._problem = ""

    async def close(self) -> None:
        """Gives up what is being carried."""
        if self._carrying is not None:
            self._carrying.cancel()
            await asyncio.wait({self._carrying})

    async def read(
        self, state: RolloutState, candidate: LocalRevision, stable: LocalRevision | None, *, stable_serves: bool
    ) -> Evidence:
        """What is known now.

        Args:
            state: before this look's decision.
            stable_serves: whether stable has the traffic.
        """
        news, olds = await asyncio.gather(self._ask(candidate), self._ask(stable))
        reading = Reading(
            stage=state.stage,
            now=asyncio.get_running_loop().time(),
            stable_revision=state.stable,
            candidate_revision=state.candidate,
            stable=olds,
            candidate=news,
            stable_serves=stable_serves,
            urls={candidate.name: candidate.url},
            problem=self._problem,
        )
        self._remembered, evidence = look(self._remembered, reading)
        if stable is not None and compare_next(olds, news, candidate.wanted.policy.gates) is not None:
            self._carry(stable, candidate)
        return evidence

    async def _ask(self, revision: LocalRevision | None) -> Replicas:
        if revision is None:
            return {}
        try:
            return {revision.name: await read_evidence(self._fetch, revision.url)}
        except ReadFailed:  # a tap that does not answer: its readiness says so
            return {}

    def _carry(self, stable: LocalRevision, candidate: LocalRevision) -> None:
        if self._carrying is None or self._carrying.done():
            self._carrying = asyncio.create_task(self._carry_sample(stable, candidate))

    async def _carry_sample(self, stable: LocalRevision, candidate: LocalRevision) -> None:
        self._problem = ""
        try:
            await carry_sample(self._fetch, stable.url, candidate.url, candidate.wanted.policy.gates.compatibility)
        except ReadFailed as error:
            self._problem = str(error)

    async def _fetch(
        self, method: str, url: str, *, body: bytes, content_type: str, most_bytes: int, timeout_seconds: float
    ) -> tuple[int, bytes]:
        headers = {"content-type": content_type} if content_type else {}
        content = bytearray()
        try:
            async with (
                asyncio.timeout(timeout_seconds),
                self._client.stream(method, url, content=body or None, headers=headers) as answer,
            ):
                async for chunk in answer.aiter_bytes():
                    content += chunk
                    if len(content) > most_bytes:
                        raise ReadFailed(f"{url} answers with more than {most_bytes} bytes")
                return answer.status_code, bytes(content)
        except TimeoutError as error:
            raise ReadFailed(f"{url} does not answer within {timeout_seconds:g} s") from error
        except httpx.HTTPError as error:
            raise ReadFailed(f"{url} does not answer ({type(error).__name__})") from error
