"""Fits a bundle's profile: inputs through its own operations, then drift statistics and health baselines on them.

Repeatable: batches of one size, one thread in every sum, every draw from a stored seed. Another CPU model may round
differently, as with golden outputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from latentry_serving.bundle.inference import Runner
from latentry_serving.bundle.profile import BundleProfile, Health, save_profile
from latentry_serving.bundle.progress import Steps
from latentry_serving.bundle.reference import load_reference, load_times, match_inputs
from latentry_serving.bundle.spec import SMALLEST_WINDOW, BundleSpec, ProfileSpec
from latentry_serving.bundle.store import file_digest
from latentry_serving.bundle.tensors import Array
from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.manifest import Contract, Sha256, TensorSpec
from latentry_serving.contract.operations import (
    EMBEDDING,
    POSTERIOR_LOG_VARIANCE,
    POSTERIOR_MEAN,
    RECONSTRUCTION_ERROR,
    Family,
    Operation,
)
from latentry_serving.contract.watched import MOST_DIMENSIONS, watched_tensors
from latentry_serving.drift.describe import CLIP
from latentry_serving.drift.fit import FitSettings, fit_tensor
from latentry_serving.drift.profile import Profile, TensorProfile
from latentry_serving.health.autoencoder import AutoencoderBaseline
from latentry_serving.health.encoder import EncoderBaseline
from latentry_serving.health.vae import VaeBaseline

FEWEST_WINDOWS = 4
FEW_WINDOWS = 10
ANOMALY_QUANTILE = 0.99
_BEYOND = 10  # validation errors beyond the anomaly quantile, at least: fewer place no threshold
_SEED = 0

Telling = Callable[[str, float], None]
Warn = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class ProfileData:
    """What a profile is fitted on.

    Attributes:
        inputs: by input name, [n, ...] each. times_s: [n] Unix seconds, or None.
        digests: of the files they came from.
    """

    inputs: Mapping[str, Array]
    times_s: NDArray[np.float64] | None
    window: int
    digests: Mapping[str, Sha256]

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))


def read_profile_data(
    spec: BundleSpec,
    inputs: tuple[TensorSpec, ...],
    reference: Mapping[str, Array],
    reference_digest: Sha256,
    base_dir: Path,
    warn: Warn,
) -> ProfileData | None:
    """What the spec says the profile is fitted on; None when there is to be none, which a warning explains.

    Raises:
        InvalidInput: ``profile`` asks for one and the data are wrong or too few.
    """
    wanted, subject = spec.profile or ProfileSpec(), f"bundle {spec.name} {spec.version}"
    if not wanted.enabled:
        return None
    arrays, digests = reference, {"inputs": reference_digest}
    if wanted.inputs is not None:
        field, path = "profile.inputs.path", base_dir / wanted.inputs.path
        loaded = load_reference(path, subject=subject, field=field)
        arrays = match_inputs(loaded, inputs, samples=1, reduction=None, subject=subject, field=field)
        digests = {"inputs": file_digest(path)}
    rows, times = len(next(iter(arrays.values()))), None
    if wanted.timestamps is not None:
        path = base_dir / wanted.timestamps.path
        times = load_times(path, rows, subject=subject, field="profile.timestamps.path")
        digests["timestamps"] = file_digest(path)
    problem = too_few(rows, wanted.window)
    if problem is not None and spec.profile is not None:
        raise InvalidInput(subject, [problem])
    if problem is not None:
        warn(
            f"built without a profile, so drift cannot be watched: {problem.problem}; {problem.remedy}, "
            "or write profile: false"
        )
        return None
    return ProfileData(arrays, times, wanted.window, digests)


def add_profile(bundle_dir: Path, contract: Contract, data: ProfileData, steps: Steps, warn: Warn) -> None:
    """Fits a profile and writes it into a bundle that is being built, telling how far the step at hand is."""
    profile, notes = fit_profile(
        bundle_dir, contract, data, lambda what, share: steps.detail(f"profile: {what} ({share:.0%})")
    )
    save_profile(bundle_dir, profile)
    few = few_windows(data.rows, data.window)
    for note in (*([few] if few else []), *notes):
        warn(note)


def too_few(rows: int, window: int) -> Problem | None:
    """Why so many inputs make no profile: fewer than 4 windows."""
    if rows >= FEWEST_WINDOWS * window:
        return None
    smaller, most = "", rows // FEWEST_WINDOWS
    if most >= SMALLEST_WINDOW:
        smaller = f", or a window of {most} or fewer"
    return Problem(
        "profile.window",
        f"{rows} inputs are {rows // window} windows of {window}, fewer than {FEWEST_WINDOWS}",
        f"give {FEWEST_WINDOWS * window} inputs or more ({FEW_WINDOWS * window} to calibrate well){smaller}",
    )


def few_windows(rows: int, window: int) -> str | None:
    """The warning for a profile that holds but is slow: fewer than 10 windows."""
    if rows >= FEW_WINDOWS * window:
        return None
    return (
        f"profile.window: {rows} inputs are {rows // window} windows of {window}: alarms hold what they promise, but "
        f"small drifts are seen late; give {FEW_WINDOWS * window} inputs or a window of {rows // FEW_WINDOWS} or fewer"
    )


def fit_profile(
    bundle_dir: Path, contract: Contract, data: ProfileData, progress: Telling
) -> tuple[BundleProfile, tuple[str, ...]]:
    """Fits a profile with the operations that lie in a folder.

    Args:
        progress: told what is done and its share, 0 to 1.

    Returns:
        The profile, and what the user should know: sentences that name the tensor.

    Raises:
        InvalidInput: too few inputs, an operation that fails on them, or a latent that never varies.
    """
    problem = too_few(data.rows, data.window)
    if problem is not None:
        raise InvalidInput("profile", [problem])
    order = np.arange(data.rows) if data.times_s is None else np.argsort(data.times_s, kind="stable")
    times = None if data.times_s is None else data.times_s[order]
    inputs = {name: array[order] for name, array in data.inputs.items()}
    # One thread: sums are split otherwise with every other number of cores, and the digest changed with them.
    with threadpool_limits(1):
        values = Runner(bundle_dir, contract).run(inputs, progress)
        tensors, notes = _tensors(values, times, data.window, progress)
        progress("fitting health baselines", 0.0)
        health, more = _health(contract, values, data.window)
    notes += _unwatched(contract) + more
    provenance = {"samples": str(data.rows), **data.digests}
    return BundleProfile(Profile(tensors, _SEED, provenance), health), tuple(notes)


def _tensors(
    values: Mapping[str, Array], times: NDArray[np.float64] | None, window: int, progress: Telling
) -> tuple[dict[str, TensorProfile], list[str]]:
    tensors, notes = {}, []
    settings = FitSettings(window=window, seed=_SEED)
    for name, array in values.items():
        if not _varies(array):
            notes.append(f"{name} is not watched: it is the same for (nearly) all {len(array)} inputs")
            continue
        tensors[name] = fit_tensor(
            name, array, settings, times_s=times, progress=lambda what, share: progress(f"fitting {what}", share)
        )
    if not tensors:
        raise InvalidInput.one(
            "profile",
            path="profile.inputs",
            problem="nothing the model takes or gives varies over them",
            remedy="give real inputs that differ",
        )
    return tensors, notes


def _varies(array: Array) -> bool:
    """Whether any dimension still varies without its outermost thousandths, as the fit asks."""
    low, high = np.quantile(array, [CLIP, 1 - CLIP], axis=0, method="nearest")
    return bool((low != high).any())


def _health(contract: Contract, values: Mapping[str, Array], window: int) -> tuple[Health, list[str]]:
    encoder, reconstruction, posterior = None, None, None
    notes: list[str] = []
    errors = values.get(RECONSTRUCTION_ERROR)
    if errors is not None:
        quantile = min(ANOMALY_QUANTILE, 1 - _BEYOND / int(np.isfinite(errors).sum()))
        reconstruction = AutoencoderBaseline.fit(errors, window=window, quantile=quantile)
        if quantile < ANOMALY_QUANTILE:
            notes.append(
                f"an anomaly is an error beyond the {quantile:.4g} quantile: {len(errors)} inputs do not show "
                f"{ANOMALY_QUANTILE}; {round(_BEYOND / (1 - ANOMALY_QUANTILE))} would"
            )
    if contract.family is Family.VAE:
        posterior = VaeBaseline.fit(values[POSTERIOR_MEAN], values[POSTERIOR_LOG_VARIANCE], window=window)
        notes += [f"health: {note}" for note in posterior.judge(posterior.new_window()).notes]
    elif contract.family is Family.ENCODER or reconstruction is None:
        encoder = EncoderBaseline.fit(values[EMBEDDING], window=window, seed=_SEED)
    return Health(encoder, reconstruction, posterior), notes


def _unwatched(contract: Contract) -> list[str]:
    """Inputs that have no place in a profile, and why."""
    watched = {tensor.tensor for tensor in watched_tensors(contract) if tensor.side == "input"}
    return [
        f"input {tensor.name} is not watched: "
        + ("its shape varies" if min(tensor.shape, default=1) < 1 else f"it has more than {MOST_DIMENSIONS} dimensions")
        for tensor in contract.operations[Operation.ENCODE].inputs
        if tensor.name not in watched
    ]
