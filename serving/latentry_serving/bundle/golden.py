"""Golden calls: recorded inputs and outputs of every operation, and how a later run is held to them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from latentry_serving.bundle.recorded import REPLAYED_ROWS, golden_file, largest_difference, load_golden, within
from latentry_serving.bundle.session import LOAD_ERRORS, Session, sentence
from latentry_serving.bundle.tensors import Array, numpy_dtype
from latentry_serving.contract.errors import Problem
from latentry_serving.contract.manifest import GOLDEN_FOLDER, OperationContract, Tolerance
from latentry_serving.contract.operations import LATENT, NOISE, POSTERIOR_MEAN, Operation

_NOISE_SEED = 20131220
"""Fixed, so that the same build records the same noise: the date of "Auto-Encoding Variational Bayes"."""


def save_golden(
    bundle_dir: Path, operation: Operation, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
) -> None:
    """Writes one operation's golden call."""
    for side, arrays in (("inputs", inputs), ("outputs", outputs)):
        for name, array in arrays.items():
            path = golden_file(bundle_dir, operation, side, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, array, allow_pickle=False)


def operation_inputs(
    operation: Operation, contract: OperationContract, rows: Mapping[str, Array], encoded: Mapping[str, Array]
) -> dict[str, Array]:
    """What an operation is recorded with: reference rows, latents of those rows, or fixed noise.

    Args:
        rows: the chosen reference rows by input name, each [samples, ...].
        encoded: encode's outputs on those rows, each [samples, d].
    """
    match operation:
        case Operation.DECODE:
            latent = encoded.get(LATENT, encoded.get(POSTERIOR_MEAN))
            assert latent is not None  # noqa: S101 - only families with such an output decode
            return {LATENT: latent}
        case Operation.SAMPLE:
            (noise,) = contract.inputs
            samples = len(next(iter(rows.values())))
            draws = np.random.default_rng(_NOISE_SEED).standard_normal((samples, *noise.shape))
            return {NOISE: draws.astype(numpy_dtype(noise.datatype))}
        case _:
            return dict(rows)


def replay(
    bundle_dir: Path, operation: Operation, contract: OperationContract, tolerance: Tolerance, graph: Path
) -> tuple[float, list[Problem]]:
    """Runs an operation on some of its golden inputs, evenly spread.

    Returns:
        The largest absolute difference from the golden outputs, and what is wrong, nothing when within tolerance.
    """
    path = graph.relative_to(bundle_dir).as_posix()
    rebuild = "rebuild the bundle; if the hardware is the reason, widen golden.tolerances"
    try:
        inputs = load_golden(bundle_dir, operation, "inputs", contract.inputs, most=REPLAYED_ROWS)
        expected = load_golden(bundle_dir, operation, "outputs", contract.outputs, most=REPLAYED_ROWS)
    except (OSError, ValueError) as error:
        return 0.0, [Problem(f"{GOLDEN_FOLDER}/{operation}", f"cannot be read: {error}", "rebuild the bundle")]
    try:
        actual = Session(graph).run(inputs)
    except LOAD_ERRORS as error:
        return 0.0, [Problem(path, f"does not run: {sentence(error)}", "rebuild the bundle")]
    largest, problems = 0.0, []
    for name, wanted in expected.items():
        if name not in actual:
            problems.append(Problem(path, f"gives no output {name!r}", "rebuild the bundle"))
            continue
        difference = largest_difference(actual[name], wanted) if actual[name].shape == wanted.shape else np.inf
        largest = max(largest, difference)
        if not within(actual[name], wanted, absolute=tolerance.absolute, relative=tolerance.relative):
            problems.append(
                Problem(
                    path,
                    f"{name} differs from its golden output by up to {difference:.3g}, allowed are "
                    f"{tolerance.absolute:g} + {tolerance.relative:g} |expected|",
                    rebuild,
                )
            )
    return largest, problems
