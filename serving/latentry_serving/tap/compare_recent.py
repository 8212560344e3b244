"""Recent encode inputs: kept in the analysis process, fetched by the tap when somebody asks.

They travel as lines of the process' standard output: ``I``, the number of the asking, a space, base64 of a piece;
without a piece it is the end. The forwarding process imports this and, for its memory's sake, no numpy.
"""

import base64
import io
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import MANIFEST_FILE, BundleManifest
from latentry_serving.contract.operations import Operation
from latentry_serving.tap.analysis_frames import Control, Finding
from latentry_serving.tap.analysis_setup import AnalysisSetup

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from latentry_serving.tap.analysis_decode import Sample
    from latentry_serving.tap.compare_sample import RecentRows

_LINE = b"I"
_PIECE_BYTES = 192 * 1024
ANSWER_SECONDS = 5.0
"""How long the process may take; it may have calls to analyse first."""


class RecentInputs:
    """The tap's side. ``take`` is the traffic's thread's, ``ask`` may be called from any other."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._done = threading.Event()
        self._number = 0
        self._pieces: list[bytes] = []

    def take(self, line: bytes) -> bool:
        """Keeps a line of the process if it is a piece; whether it was."""
        if not line.startswith(_LINE):
            return False
        number, _, piece = line[1:-1].partition(b" ")
        if number != b"%d" % self._number or self._done.is_set():  # too late for who asked
            return True
        if piece:
            self._pieces.append(piece)
        else:
            self._done.set()
        return True

    def ask(self, order: Callable[[int], None]) -> bytes | None:
        """A whole sample of live inputs; None where the process did not answer in time.

        Args:
            order: has the process told to send them, under a number.
        """
        with self._asking:
            self._number += 1
            self._pieces = []
            self._done.clear()
            order(self._number)
            answered = self._done.wait(ANSWER_SECONDS)
            self._done.set()
            pieces, self._pieces = self._pieces, []
        return b"".join(map(base64.b64decode, pieces)) if answered else None


class LiveInputs:
    """The process' side: a consumer of samples that answers orders."""

    def __init__(self, manifest: BundleManifest, rows: "RecentRows", sink: io.FileIO, digest: str) -> None:
        self._manifest = manifest
        self._encode = manifest.contract.operations[Operation.ENCODE]
        self._rows = rows
        self._sink = sink
        self._digest = digest

    def consume(self, sample: "Sample") -> Mapping[Finding, int]:
        """Keeps it, when it is an encode."""
        self._rows.add(sample)
        return {}

    def control(self, order: Mapping[str, Any], payload: bytes) -> None:
        """Sends what is kept, when told to."""
        if Control(order["control"]) is not Control.INPUTS:
            return
        begin = _LINE + b"%d " % int(order["number"])
        for piece in self._pieces():
            for start in range(0, len(piece), _PIECE_BYTES):
                self._sink.write(begin + base64.b64encode(piece[start : start + _PIECE_BYTES]) + b"\n")
        self._sink.write(begin + b"\n")

    def step(self) -> bytes | None:
        """Nothing is due by itself."""
        return None

    def _pieces(self) -> Iterator[bytes]:
        from latentry_serving.contract.comparison import SampleHead
        from latentry_serving.tap.compare_sample import described, payload

        # A candidate that encodes into several lengths is broken; the contract says which one counts.
        dimensions = self._manifest.contract.latent_dimension
        groups = [rows for rows in self._rows.groups() if rows.embeddings.shape[1] == dimensions]
        lost = self._rows.not_finite
        head = SampleHead(
            digest=self._digest,
            version=self._manifest.version,
            embedding_space=self._manifest.contract.embedding_space,
            dimensions=dimensions,
            groups=tuple(described(rows, self._encode) for rows in groups),
            note=f"{lost} live inputs are left out, their embeddings held NaN or infinity" if lost else "",
        )
        yield head.model_dump_json(by_alias=True).encode() + b"\n"
        for rows in groups:
            yield from payload(rows, self._encode)


def open_live_inputs(setup: AnalysisSetup, sink: io.FileIO) -> LiveInputs | None:
    """What keeps the inputs of a bundle's traffic; None where its manifest cannot be read, which is logged."""
    from latentry_serving.bundle.store import file_digest, load_manifest
    from latentry_serving.tap.compare_sample import RecentRows

    folder = Path(setup.bundle_dir or "")
    try:
        manifest, digest = load_manifest(folder), file_digest(folder / MANIFEST_FILE)
    except InvalidInput as error:
        log.warning("no inputs are kept", extra={"reason": str(error)})
        return None
    rows = RecentRows(manifest.contract, most_rows=setup.recent_inputs, most_bytes=setup.recent_bytes)
    return LiveInputs(manifest, rows, sink, digest)
