"""Records golden calls: runs the composed graphs on rows of the reference, a few to begin with, then as many as fit."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from latentry_serving.bundle.golden import operation_inputs, save_golden
from latentry_serving.bundle.reference import spread
from latentry_serving.bundle.session import LOAD_ERRORS, Session, sentence
from latentry_serving.bundle.spec import GoldenSpec
from latentry_serving.bundle.tensors import Array
from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.manifest import OperationContract
from latentry_serving.contract.operations import Operation

Call = tuple[dict[str, Array], dict[str, Array]]


class Recorder:
    """Runs operations on some rows.

    Attributes:
        calls: inputs and outputs by operation.
    """

    def __init__(self, rows: Mapping[str, Array], *, subject: str) -> None:
        """
        Args:
            rows: of the reference by input name, [rows, ...].
            subject: the bundle, for errors.
        """
        self._rows = rows
        self._subject = subject
        self._graphs: dict[Operation, tuple[OperationContract, Path]] = {}
        self.calls: dict[Operation, Call] = {}

    @property
    def row_bytes(self) -> int:
        """Of one row of all calls."""
        size = sum(array.nbytes for call in self.calls.values() for side in call for array in side.values())
        return size // len(next(iter(self._rows.values())))

    def record(self, operation: Operation, contract: OperationContract, graph: Path) -> Call:
        """An operation's inputs and outputs; encode comes first, decode needs its latents.

        Raises:
            InvalidInput: the graph does not run, or gives values that are not finite.
        """
        encoded = self.calls[Operation.ENCODE][1] if operation is not Operation.ENCODE else {}
        given = operation_inputs(operation, contract, self._rows, encoded)
        self._graphs[operation] = contract, graph
        self.calls[operation] = given, self._run(operation, graph, given)
        return self.calls[operation]

    def again(self, rows: Mapping[str, Array]) -> "Recorder":
        """The same operations on other rows."""
        other = Recorder(rows, subject=self._subject)
        for operation, (contract, graph) in self._graphs.items():
            other.record(operation, contract, graph)
        return other

    def _run(self, operation: Operation, graph: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            outputs = Session(graph).run_rows(inputs)
        except LOAD_ERRORS as error:
            raise InvalidInput.one(
                self._subject,
                path=operation,
                problem=f"the composed graph does not run: {sentence(error)}",
                remedy="export encoder and decoder with the same torch and opset, in float32",
            ) from error
        remedy = "check the model's value range"
        problems = [
            Problem(operation, f"{name} holds NaN or infinite values for reference inputs", remedy)
            for name, array in outputs.items()
            if not np.isfinite(array).all()
        ]
        if problems:
            raise InvalidInput(self._subject, problems)
        return outputs


def write_golden(bundle_dir: Path, golden: GoldenSpec, reference: Mapping[str, Array], few: Recorder) -> int:
    """Writes the golden calls of all operations; how many rows of the reference each has.

    Args:
        few: has recorded the fewest rows that a bundle may have, which tells how large one is.
    """
    rows = golden.rows(len(next(iter(reference.values()))), few.row_bytes)
    recorder = few.again(spread(reference, rows)) if rows > golden.fewest else few
    for operation, (inputs, outputs) in recorder.calls.items():
        save_golden(bundle_dir, operation, inputs, outputs)
    return rows
