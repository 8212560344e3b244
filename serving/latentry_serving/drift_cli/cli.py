"""``latentry profile`` and ``latentry drift``. Heavy imports happen when a command runs."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentry_serving.bundle.console import print_json, print_warnings, shown
from latentry_serving.bundle.progress import Step
from latentry_serving.contract.errors import InvalidInput, OperationFailed
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.units import Duration
from latentry_serving.drift_cli.kinds import DriftKind

if TYPE_CHECKING:
    from latentry_serving.drift_cli.judging import Tolerated
    from latentry_serving.drift_cli.verdict import Verdict

EXIT_DRIFT = 3
"""``drift check`` ends with this when the inputs drifted."""

profile_app = typer.Typer(name="profile", help="What undrifted traffic looks like.", no_args_is_help=True)
drift_app = typer.Typer(name="drift", help="Has the traffic drifted, and what do alarms cost?", no_args_is_help=True)


@profile_app.callback()
@drift_app.callback()
def _require_extra() -> None:
    missing = [
        name
        for name in ("jinja2", "numpy", "onnxruntime", "scipy", "threadpoolctl")
        if not importlib.util.find_spec(name)
    ]
    if missing:
        raise OperationFailed(
            f"this command needs {', '.join(missing)}, which this installation lacks", remedy="install latentry[bundle]"
        )


def _duration(text: str) -> Duration:
    try:
        return Duration.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Bundle = Annotated[Path, typer.Argument(help="Folder of a bundle.")]
InputsFile = Annotated[Path, typer.Option("--inputs", help="Model inputs: .npy, .npz, .csv or .parquet, a row each.")]
Timestamps = Annotated[
    str | None,
    typer.Option("--timestamps", help="Times of the inputs: an .npy file, or a column (array) of the inputs' file."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@profile_app.command()
def fit(
    bundle: Bundle,
    inputs: InputsFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new bundle.")],
    timestamps: Timestamps = None,
    window: Annotated[int, typer.Option(help="Inputs that are judged together.", min=20)] = 500,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Give a bundle a profile from inputs that came later: the same graphs under a new digest.

    The inputs are to be as undrifted traffic is, in its order, and not what the model was trained on.
    """
    from latentry_serving.bundle.store import load_manifest
    from latentry_serving.bundle.summary import summarise
    from latentry_serving.drift_cli.inputs import read_inputs
    from latentry_serving.drift_cli.refit import with_profile

    encode = load_manifest(bundle).contract.operations[Operation.ENCODE]
    told: list[str] = []
    with shown() as progress:
        read = read_inputs(inputs, encode.inputs, timestamps)
        with_profile(bundle, read, window, out_dir=out, force=force, progress=progress, warn=told.append)
    print_warnings(told)
    summary = summarise(out)
    if as_json:
        print_json(summary.model_dump_json(indent=2))
        return
    from latentry_serving.bundle.cli import print_summary

    print_summary(summary, title=f"built {out}")


Window = Annotated[int | None, typer.Option(help="Inputs judged together; default: the profile's window.")]
FalseAlarms = Annotated[
    float | None,
    typer.Option(help="Probability that undrifted inputs are called drifted; default 0.01.", min=1e-9, max=0.1),
]
RunTime = Annotated[
    Duration | None,
    typer.Option(
        parser=_duration, metavar="DURATION", help="Judge as live: mean time between false alarms, with --rate."
    ),
]
Rate = Annotated[float | None, typer.Option(help="Inputs per second of the traffic.", min=1e-6)]


@drift_app.command()
def check(
    bundle: Bundle,
    inputs: InputsFile,
    timestamps: Timestamps = None,
    window: Window = None,
    false_alarms: FalseAlarms = None,
    expected_run_time: RunTime = None,
    rate: Rate = None,
    as_json: Json = False,
) -> None:
    """Run inputs through the model and judge them against the bundle's profile.

    Exit code 0: no drift; 3: drift; 2: bad input; 1: failure.
    """
    from latentry_serving.drift_cli.judging import judge_file

    how = _how(false_alarms, expected_run_time, rate)
    with shown() as progress:
        judged = judge_file(bundle, inputs, timestamps, window, how, _telling(progress))
    _end(judged.verdict, inputs, as_json)


@drift_app.command()
def report(
    bundle: Bundle,
    inputs: InputsFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page; a page that is there is replaced.")] = Path(
        "report.html"
    ),
    timestamps: Timestamps = None,
    window: Window = None,
    false_alarms: FalseAlarms = None,
    expected_run_time: RunTime = None,
    rate: Rate = None,
    as_json: Json = False,
) -> None:
    """Judge inputs as ``check`` does and write what they show as one HTML page with charts.

    The page is complete in itself: it loads nothing. Exit codes as of check: 0 no drift, 3 drift, 2 bad input, 1
    failure.
    """
    from latentry_serving.drift_cli.judging import judge_file
    from latentry_serving.drift_cli.report import check_target, write_report

    how = _how(false_alarms, expected_run_time, rate)
    check_target(output)
    with shown() as progress:
        judged = judge_file(bundle, inputs, timestamps, window, how, _telling(progress))
        write_report(judged, output)
    _end(judged.verdict, inputs, as_json, note=f"report: {output}")


def _how(false_alarms: float | None, expected_run_time: Duration | None, rate: float | None) -> "Tolerated":
    from latentry_serving.drift_cli.judging import Tolerated

    if false_alarms is not None and expected_run_time is not None:
        raise InvalidInput.one(
            "drift check",
            path="--false-alarms",
            problem=f"{false_alarms:g} and --expected-run-time {expected_run_time} both state how often to be wrong",
            remedy="give one of them",
        )
    if expected_run_time is not None:
        return Tolerated(None, expected_run_time.seconds, rate)
    return Tolerated(false_alarms or 0.01, None, rate)


def _end(verdict: "Verdict", inputs: Path, as_json: bool, note: str = "") -> None:
    """Prints the verdict, a note behind it where people read, and ends with its exit code."""
    from rich.console import Console

    from latentry_serving.drift_cli.show import print_verdict
    from latentry_serving.drift_cli.verdict import NO_SUCH_HOURS

    if as_json:
        print_json(json.dumps(verdict.to_json(), indent=2))
    else:
        console = Console(highlight=False)
        print_verdict(console, verdict, title=str(inputs))
        if note:
            console.print(note, markup=False, soft_wrap=True)
    if verdict.drifted:
        raise typer.Exit(EXIT_DRIFT)
    if verdict.unjudged:
        raise InvalidInput.one(
            "drift check",
            path="--inputs",
            problem=f"nothing of {', '.join(verdict.unjudged)} could be judged: {NO_SUCH_HOURS}",
            remedy="give inputs of other hours, or fit a profile with inputs of these",
        )


@drift_app.command()
def simulate(
    bundle: Bundle,
    inputs: InputsFile,
    kind: Annotated[DriftKind, typer.Option(help="What changes.")],
    size: Annotated[
        float,
        typer.Option(help="By how much: standard deviations, 1 + factor, radians, or share of the traffic.", min=1e-6),
    ],
    rate: Annotated[float, typer.Option(help="Inputs per second that are sampled, of all replicas.", min=1e-6)],
    timestamps: Timestamps = None,
    on: Annotated[str, typer.Option(help="Tensor that drifts; input drifts go through the model.")] = "input",
    window: Annotated[int | None, typer.Option(help="Inputs judged together; default: the profile's window.")] = None,
    expected_run_time: Annotated[
        Duration | None,
        typer.Option(parser=_duration, metavar="DURATION", help="Mean time between false alarms; default 30d."),
    ] = None,
    replicas: Annotated[int, typer.Option(help="Pods that share the traffic and the budget.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of every random draw.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """How long until a drift is noticed, and how many false alarms that costs, by simulation.

    The inputs are undrifted ones, such as the reference: the drift is applied to them.
    """
    from rich.console import Console

    from latentry_serving.bundle.inference import Runner
    from latentry_serving.drift_cli.inputs import read_inputs
    from latentry_serving.drift_cli.judging import profiled
    from latentry_serving.drift_cli.scenario import Scenario, priced
    from latentry_serving.drift_cli.show import print_price

    manifest, profile = profiled(bundle)
    run_time = expected_run_time or Duration.parse("30d")
    scenario = Scenario(kind, size, on, rate, window or profile.window, run_time.seconds, replicas, seed)
    with shown() as progress:
        read = read_inputs(inputs, manifest.contract.operations[Operation.ENCODE].inputs, timestamps).ordered()
        found = priced(profile, Runner(bundle, manifest.contract), read, scenario, _telling(progress))
    if as_json:
        print_json(json.dumps(found.to_json(), indent=2))
    else:
        print_price(Console(highlight=False), found, scenario)


def _telling(progress: Callable[[Step], None]) -> Callable[[str, float], None]:
    """A share of the work at hand as a step of a hundred."""
    return lambda what, share: progress(Step(what, round(100 * share), 100))
