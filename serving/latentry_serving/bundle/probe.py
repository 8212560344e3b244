"""Runs a graph on real inputs before anything is composed: loads it, checks what it gives, compares it with torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from latentry_serving.bundle.graph import Graph
from latentry_serving.bundle.recorded import largest_difference, within
from latentry_serving.bundle.session import LOAD_ERRORS, Session, sentence
from latentry_serving.bundle.tensors import Array
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import Tolerance


class Probe:
    """One artifact's graph, loaded."""

    def __init__(self, graph: Graph, path: Path, *, subject: str) -> None:
        """Loads the graph from ``path``.

        Raises:
            InvalidInput: onnxruntime has no implementation for an operator, or refuses the graph.
        """
        self._graph = graph
        self._subject = subject
        try:
            self._session = Session(path)
        except LOAD_ERRORS as error:
            raise self._refused(
                f"onnxruntime cannot load it: {sentence(error)}",
                "export with operators of the standard ONNX set, which onnxruntime implements",
            ) from error

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The outputs in the graph's order.

        Raises:
            InvalidInput: the graph fails on these inputs.
        """
        try:
            outputs = self._session.run(inputs)
        except LOAD_ERRORS as error:
            raise self._refused(
                f"fails on reference inputs: {sentence(error)}",
                "run the exported graph on the reference data, with batches of one row and of several",
            ) from error
        return [outputs[name] for name in self._graph.outputs]

    def check(self, inputs: Mapping[str, Array], shape: tuple[int, ...], *, tolerance: Tolerance) -> list[Array]:
        """Runs all rows at once, again, and the first row alone.

        Args:
            inputs: arrays of [rows, ...] by input name.
            shape: what every output must be, without the rows.
            tolerance: how closely one row alone must repeat its result in the batch.

        Returns:
            The outputs, each [rows, *shape].

        Raises:
            InvalidInput: other output shapes; NaN or infinite outputs; results that change from call to call or with
                the other rows of the batch.
        """
        outputs = self.run(inputs)
        rows = len(next(iter(inputs.values())))
        self._check_values(outputs, (rows, *shape))
        if any(a.tobytes() != b.tobytes() for a, b in zip(outputs, self.run(inputs), strict=True)):
            raise self._refused(
                "gives another result each time for the same input",
                "export in evaluation mode, without dropout or sampling inside the graph",
            )
        alone = self.run({name: array[:1] for name, array in inputs.items()})
        self._compare(
            alone,
            [output[:1] for output in outputs],
            tolerance,
            "gives another result for a row alone than for the row in a batch",
            "export in evaluation mode (batch normalisation), and keep the batch dimension apart in every reshape",
        )
        return outputs

    def check_parity(self, outputs: Sequence[Array], expected: Sequence[Array], *, tolerance: Tolerance) -> None:
        """Compares with torch's outputs on the same inputs.

        Raises:
            InvalidInput: they differ by more than the tolerance; the largest difference is named.
        """
        self._compare(
            outputs,
            expected,
            tolerance,
            "the exported graph does not repeat torch on reference inputs",
            "check the export, or widen parity if the model is that sensitive",
        )

    def _check_values(self, outputs: Sequence[Array], shape: tuple[int, ...]) -> None:
        for name, output in zip(self._graph.outputs, outputs, strict=True):
            if output.shape != shape:
                encoder = self._graph.role == "encoder"
                raise self._refused(
                    f"output {name!r} has shape {list(output.shape)} for {shape[0]} rows, expected {list(shape)}: it "
                    + ("is not the declared latentDimension" if encoder else "does not fit the encoder"),
                    "correct latentDimension, or give the matching graph",
                )
            if not np.isfinite(output).all():
                raise self._refused(
                    f"output {name!r} holds NaN or infinite values for reference inputs",
                    "check the weights and the preprocessing of the reference data",
                )

    def _compare(
        self, actual: Sequence[Array], expected: Sequence[Array], tolerance: Tolerance, problem: str, remedy: str
    ) -> None:
        for name, one, other in zip(self._graph.outputs, actual, expected, strict=True):
            if not within(one, other, absolute=tolerance.absolute, relative=tolerance.relative):
                raise self._refused(
                    f"{problem}: {name!r} differs by up to {largest_difference(one, other):.3g}, allowed are "
                    f"{tolerance.absolute:g} + {tolerance.relative:g} |expected|",
                    remedy,
                )

    def _refused(self, problem: str, remedy: str) -> InvalidInput:
        return InvalidInput.one(self._subject, path=f"artifacts.{self._graph.role}", problem=problem, remedy=remedy)
