"""One simulation: which drift, where, at which rate, under which settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from latentry_serving.bundle.inference import Runner
from latentry_serving.bundle.profile import BundleProfile
from latentry_serving.bundle.tensors import Array
from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.watched import INPUT
from latentry_serving.drift.budget import FEWEST_WINDOWS
from latentry_serving.drift_cli.check import FEWEST_ROWS
from latentry_serving.drift_cli.drifts import drifted, reordered
from latentry_serving.drift_cli.inputs import Inputs
from latentry_serving.drift_cli.kinds import REORDERING, DriftKind
from latentry_serving.drift_cli.simulate import WINDOWS, Price, judged_windows, live_settings, price

Telling = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """``rate``: sampled inputs per second over all replicas; ``on``: the tensor that drifts."""

    kind: DriftKind
    size: float
    on: str
    rate: float
    window: int
    run_time_s: float
    replicas: int
    seed: int


def priced(profile: BundleProfile, runner: Runner, inputs: Inputs, scenario: Scenario, progress: Telling) -> Price:
    """Simulates.

    Args:
        inputs: undrifted, in the order of their times where they have any. A drift of ``input`` goes through the model,
            one of another tensor stays there; kinds that change which inputs come change all tensors.

    Raises:
        InvalidInput: settings out of range, too few inputs, a tensor that is not watched or cannot drift so.
    """
    _check(profile, inputs, scenario)
    rng = np.random.Generator(np.random.PCG64(scenario.seed))
    values = _drifted(profile, runner, inputs, scenario, rng, progress)
    starts = rng.integers(0, inputs.rows - scenario.window + 1, WINDOWS)
    p = judged_windows(profile, values, starts, scenario.window, progress, times_s=inputs.times_s)
    settings = live_settings(profile, scenario.window, scenario.rate, scenario.run_time_s, scenario.replicas)
    return price(profile, p, settings, rng, progress)


def _drifted(
    profile: BundleProfile,
    runner: Runner,
    inputs: Inputs,
    scenario: Scenario,
    rng: np.random.Generator,
    progress: Telling,
) -> Mapping[str, Array]:
    arrays = inputs.arrays
    if scenario.kind in REORDERING:
        values = runner.run(arrays, progress)
        latent = next((name for name in profile.drift.tensors if not name.startswith(INPUT)), INPUT)
        index = reordered(values, latent, scenario.kind, scenario.size, scenario.window, rng)
        return {name: array[index] for name, array in values.items()}
    if scenario.on == INPUT:
        ((name, array),) = arrays.items()
        flat = drifted(array.reshape(len(array), -1), scenario.kind, scenario.size, rng)
        return runner.run({name: flat.reshape(array.shape).astype(array.dtype)}, progress)
    values = runner.run(arrays, progress)
    return values | {scenario.on: drifted(values[scenario.on], scenario.kind, scenario.size, rng)}


def _check(profile: BundleProfile, inputs: Inputs, scenario: Scenario) -> None:
    problems = []
    window = scenario.window
    if not FEWEST_ROWS <= window <= profile.window:
        remedy = f"write {FEWEST_ROWS} to {profile.window}, or fit a profile with a larger window"
        problems.append(Problem("--window", f"{window}; the profile was calibrated for {profile.window}", remedy))
    elif inputs.rows < 4 * window:
        problem = f"{inputs.rows} inputs are {inputs.rows // window} windows of {window}"
        problems.append(Problem("--inputs", problem, f"give {4 * window} or more, such as the reference"))
    window_s = window * scenario.replicas / scenario.rate
    if scenario.run_time_s < FEWEST_WINDOWS * window_s:
        problem = f"{scenario.run_time_s:g} s is {scenario.run_time_s / window_s:.3g} windows of {window_s:g} s"
        remedy = f"write {FEWEST_WINDOWS * window_s:.0f}s or more, a smaller window, or a higher rate"
        problems.append(Problem("--expected-run-time", problem, remedy))
    if scenario.on not in profile.drift.tensors:
        known = ", ".join(profile.drift.tensors)
        problems.append(Problem("--on", f"{scenario.on!r} is not watched", f"write one of {known}"))
    elif scenario.kind not in REORDERING and scenario.on == INPUT:
        (array, *_) = inputs.arrays.values()
        if array.dtype.kind != "f":
            problem = f"{scenario.kind} of {array.dtype} inputs means nothing"
            problems.append(Problem("--on", problem, "name another tensor, such as embedding, or --kind mixture"))
    if scenario.kind in REORDERING and scenario.size > 1:
        problems.append(Problem("--size", f"{scenario.size:g} is no share of the traffic", "write 0.05, at most 1"))
    slots = [name for name, tensor in profile.drift.tensors.items() if tensor.slots > 1]
    if slots and inputs.times_s is None:
        problem = f"are missing; {', '.join(slots)} is held against the reference of its hour of the day"
        problems.append(Problem("--timestamps", problem, "give the times of the inputs"))
    if problems:
        raise InvalidInput("drift simulate", problems)
