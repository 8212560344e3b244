"""A tap's part in comparing two revisions: its contract as served, a sample of its inputs, its own comparison."""

import logging
import threading
from collections.abc import Callable

from latentry_serving.bundle.profile import load_health
from latentry_serving.contract.comparison import (
    MOST_HEAD_BYTES,
    MOST_SAMPLE_BYTES,
    SampleHead,
    split_sample,
)
from latentry_serving.contract.contract_report import ContractReport, LatentBaseline
from latentry_serving.contract.errors import InvalidInput, OperationFailed
from latentry_serving.contract.metrics import BundleState
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.tap_config import Address
from latentry_serving.tap.bundle_source import BundleSource
from latentry_serving.tap.compare_desk import CompareDesk
from latentry_serving.tap.compare_sample import Rows, described, golden_rows, payload, unpacked
from latentry_serving.tap.triton_http import TritonHttp, TritonRefused, TritonUnreachable

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 2.0
_MOST_GOLDEN_BYTES = MOST_SAMPLE_BYTES - 24 * 2**20 - 2 * MOST_HEAD_BYTES


class ServedContract:
    """The bundle's contract with what Triton says about batches; any thread."""

    def __init__(self, source: BundleSource, triton: Address) -> None:
        self._source = source
        self._triton = triton
        self._sizes: dict[Operation, int] | None = None
        self._baseline: LatentBaseline | None = None
        self._looked = False
        self._asking = threading.Lock()

    def report(self) -> ContractReport:
        """Asks Triton until it has told once: the same models run with the same settings as long as the tap does."""
        verified = self._source.state is BundleState.VERIFIED
        if (self._sizes is None or (verified and not self._looked)) and self._asking.acquire(blocking=False):
            try:
                self._sizes = self._sizes if self._sizes is not None else self._ask()
                if verified and not self._looked:
                    self._baseline, self._looked = latent_baseline(self._source), True
            finally:
                self._asking.release()
        manifest = self._source.manifest
        return ContractReport(
            version=manifest.version,
            digest=self._source.digest,
            contract=manifest.contract,
            max_batch_sizes=self._sizes,
            baseline=self._baseline,
        )

    def _ask(self) -> dict[Operation, int] | None:
        operations = self._source.manifest.contract.operations
        try:
            with TritonHttp(self._triton, silence_seconds=_ANSWER_SECONDS) as triton:
                return {
                    operation: int(triton.model_config(contract.model).get("max_batch_size", 0))
                    for operation, contract in operations.items()
                }
        except (TritonUnreachable, TritonRefused, TypeError, ValueError):
            return None


def latent_baseline(source: BundleSource) -> LatentBaseline | None:
    """What the profile of a verified bundle says about its latent; a profile that cannot be read is the drift gate's
    matter."""
    try:
        health = load_health(source.directory, source.manifest)
    except InvalidInput as error:
        log.warning("no baseline of the latent dimensions", extra={"reason": str(error)})
        return None
    if health is None:
        return None
    if (posterior := health.posterior) is not None:
        return LatentBaseline(dimensions=len(posterior.moments.kl), active=posterior.moments.active_units)
    if (encoder := health.encoder) is not None:
        return LatentBaseline(dimensions=len(encoder.dead), active=int((~encoder.dead).sum()))
    return None


class Comparing:
    """All three together."""

    def __init__(
        self,
        source: BundleSource,
        triton: Address,
        desk: CompareDesk,
        recent: Callable[[], bytes | None] | None,
    ) -> None:
        """
        Args:
            recent: a sample of live inputs, None where the analysis process does not answer; None keeps no inputs.
        """
        self._source = source
        self._recent = recent
        self.contract = ServedContract(source, triton)
        self.desk = desk

    def sample(self) -> bytes:
        """Golden inputs with their recorded embeddings, then live ones; see ``contract/comparison.py``.

        Raises:
            OperationFailed: the bundle is not verified, or its golden call cannot be read.
        """
        source = self._source
        if source.state is not BundleState.VERIFIED:
            raise OperationFailed("the bundle is not verified", remedy="see /bundle")
        encode = source.manifest.contract.operations[Operation.ENCODE]
        try:
            golden = golden_rows(source.directory, source.manifest, most_bytes=_MOST_GOLDEN_BYTES)
        except (OSError, ValueError) as error:
            raise OperationFailed(f"the golden call cannot be read: {error}", remedy="rebuild the bundle") from error
        contract = source.manifest.contract
        live, data, note = self._live()
        groups = tuple(described(rows, encode) for rows in ([golden] if golden is not None else []) + live)
        head = SampleHead(
            digest=source.digest,
            version=source.manifest.version,
            embedding_space=contract.embedding_space,
            dimensions=contract.latent_dimension,
            groups=groups,
            reconstruction_error=contract.reconstruction_error,
            note=note,
        )
        pieces = [*payload(golden, encode)] if golden is not None else []
        return b"".join((head.model_dump_json(by_alias=True).encode(), b"\n", *pieces, data))

    def _live(self) -> tuple[list[Rows], memoryview | bytes, str]:
        """The live inputs and their bytes, and what there is to say about them."""
        if self._recent is None:
            return [], b"", "live inputs are not kept: monitoring.sampling.liveInputs is 0"
        sample = self._recent()
        if sample is None:
            return [], b"", "the analysis process did not answer, so there are no live inputs"
        try:
            head, data = split_sample(sample)
        except InvalidInput as error:
            return [], b"", f"live inputs are left out: {error}"
        rows, problem = self.desk.with_errors(unpacked(head, data))
        return rows, data, "; ".join(note for note in (head.note, problem) if note)
