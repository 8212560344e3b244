"""``latentry bundle``: build, inspect, verify, diff. Heavy imports happen when a command runs."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape

from latentry_serving.bundle.console import print_json, print_warnings, shown
from latentry_serving.contract.errors import OperationFailed

if TYPE_CHECKING:
    from latentry_serving.bundle.diff import BundleDiff
    from latentry_serving.bundle.summary import BundleSummary, ProfileSummary
    from latentry_serving.contract.manifest import TensorSpec

EXIT_BREAKING = 1
"""``diff`` ends with this when replacing the first bundle by the second breaks clients."""

bundle_app = typer.Typer(name="bundle", help="Build, inspect, verify and compare model bundles.", no_args_is_help=True)


@bundle_app.callback()
def _require_extra() -> None:
    missing = [
        name
        for name in ("numpy", "onnx", "onnxruntime", "scipy", "threadpoolctl", "tritonclient")
        if not importlib.util.find_spec(name)
    ]
    if missing:
        raise OperationFailed(
            f"latentry bundle needs {', '.join(missing)}, which this installation lacks",
            remedy="install latentry[bundle]",
        )


Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Bundle = Annotated[Path, typer.Argument(help="Folder of a bundle.")]


@bundle_app.command()
def build(
    spec: Annotated[Path, typer.Argument(help="BundleSpec YAML file; its paths are relative to it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new bundle.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Build a bundle from ONNX graphs, torch.export programs or TorchScript."""
    from latentry_serving.bundle.build import build_bundle
    from latentry_serving.bundle.spec import load_spec
    from latentry_serving.bundle.summary import summarise

    parsed = load_spec(spec)
    told: list[str] = []
    with shown() as progress:
        build_bundle(parsed, base_dir=spec.parent, out_dir=out, force=force, progress=progress, warn=told.append)
    print_warnings(told)
    summary = summarise(out)
    if as_json:
        print_json(summary.model_dump_json(indent=2))
    else:
        print_summary(summary, title=f"built {out}")


@bundle_app.command()
def inspect(bundle: Bundle, as_json: Json = False) -> None:
    """Show what a bundle offers and where it comes from."""
    from latentry_serving.bundle.summary import summarise

    summary = summarise(bundle)
    if as_json:
        print_json(summary.model_dump_json(indent=2))
    else:
        print_summary(summary, title=str(bundle))


@bundle_app.command()
def verify(
    bundle: Bundle,
    digest: Annotated[str | None, typer.Option("--digest", help="The promised sha256:... of the bundle.")] = None,
    as_json: Json = False,
) -> None:
    """Check every file, and that every graph repeats its golden outputs."""
    from latentry_serving.bundle.verify import verify_bundle

    with shown() as progress:
        result = verify_bundle(bundle, digest=digest, progress=progress)
    if as_json:
        print_json(result.model_dump_json(indent=2))
        return
    console = Console()
    console.print(f"[green]verified[/] {escape(str(bundle))} {result.digest}", soft_wrap=True)
    console.print(f"  {result.files} files, {decimal(result.bytes)}")
    for operation, difference in result.largest_differences.items():
        console.print(f"  {operation}: golden outputs repeated, largest difference {difference:.3g}")
    if result.watched:
        console.print(f"  profile: loads and fits the contract, watches {', '.join(result.watched)}", soft_wrap=True)


@bundle_app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="The bundle that serves now.")],
    after: Annotated[Path, typer.Argument(help="The bundle that would replace it.")],
    as_json: Json = False,
) -> None:
    """Compare two bundles; exit code 1 when the second breaks clients of the first."""
    from latentry_serving.bundle.diff import diff_bundles

    result = diff_bundles(before, after)
    if as_json:
        print_json(result.model_dump_json(indent=2))
    else:
        _print_diff(result)
    if not result.compatible:
        raise typer.Exit(EXIT_BREAKING)


def print_summary(summary: "BundleSummary", *, title: str) -> None:
    """A bundle as people read it."""
    console, contract = Console(), summary.contract
    console.print(f"[bold]{escape(title)}[/]", soft_wrap=True)
    facts = {
        "bundle": f"{summary.name} {summary.version}",
        "digest": summary.digest,
        "family": f"{contract.family}, latent dimension {contract.latent_dimension}",
        "embedding space": f"{contract.embedding_space} (normalisation {contract.normalisation})",
        "reconstruction error": str(contract.reconstruction_error or ""),
        "preprocessing": contract.preprocessing,
        "size": f"{decimal(summary.bytes)} in {summary.files} files",
        "golden": f"{summary.golden.samples} recorded rows per operation",
        "profile": "" if summary.profile else "none: drift cannot be watched (latentry profile fit adds one)",
        "git commit": summary.provenance.git_commit or "",
        "mlflow run": summary.provenance.mlflow_run or "",
        "tools": ", ".join(f"{name} {version}" for name, version in summary.provenance.tools.items()),
    }
    for name, value in facts.items():
        if value:
            console.print(f"  {name:<21} {escape(value)}", soft_wrap=True)
    for operation, entry in summary.operations.items():
        console.print(
            f"  [bold]{operation}[/] as {entry.model}: {entry.nodes} nodes, {decimal(entry.bytes)}, batches of up to "
            f"{entry.max_batch_size} within {entry.max_queue_delay_us} us, instances: {entry.instances}",
            soft_wrap=True,
        )
        for word, tensors in (("in ", entry.inputs), ("out", entry.outputs)):
            for tensor in tensors:
                console.print(f"    {word} {escape(_tensor(tensor))}", soft_wrap=True)
    if summary.profile is not None:
        _print_profile(console, summary.profile)


def _print_profile(console: Console, profile: "ProfileSummary") -> None:
    console.print(
        f"  [bold]profile[/] from {profile.samples} samples in windows of {profile.window}; "
        f"health of {', '.join(profile.health)}",
        soft_wrap=True,
    )
    for tensor in profile.tensors:
        parts = [f"{tensor.dimensions} dimensions" if tensor.dimensions > 1 else "1 dimension"]
        parts += [f"{tensor.dead_dimensions} of them dead"] if tensor.dead_dimensions else []
        parts += [f"{len(tensor.statistics)} statistics", f"{tensor.windows} windows"]
        parts += [f"{tensor.hour_slots} hour-of-day slots"] if tensor.hour_slots > 1 else []
        console.print(f"    {tensor.name}: {', '.join(parts)}", soft_wrap=True)
    for note in profile.shared_notes:
        console.print(f"    note: {escape(note)}", soft_wrap=True)


def _tensor(tensor: "TensorSpec") -> str:
    shape = ", ".join(["batch", *("any" if size < 0 else str(size) for size in tensor.shape)])
    bounds = f"in [{tensor.range[0]:g}, {tensor.range[1]:g}]" if tensor.range else ""
    return " ".join(part for part in (tensor.name, tensor.datatype, f"[{shape}]", tensor.unit, bounds) if part)


def _print_diff(result: "BundleDiff") -> None:
    console = Console()
    if result.before == result.after:
        console.print("[green]identical[/]: both have digest " + result.before, soft_wrap=True)
        return
    verdict = "[green]compatible[/]" if result.compatible else "[red]breaking[/]"
    console.print(f"{verdict}: {result.before} -> {result.after}", soft_wrap=True)
    for change in result.changes:
        colour = "yellow" if change.effect == "compatible" else "red"
        values = f"{change.before or '(none)'} -> {change.after or '(none)'}"
        console.print(
            f"  [{colour}]{change.effect}[/] {escape(change.path)}: {escape(values)}; {escape(change.reason)}",
            soft_wrap=True,
        )
    files = result.files
    for word, paths in (("added", files.added), ("removed", files.removed), ("changed", files.changed)):
        for path in paths:
            console.print(f"  file {word}: {escape(path)}", soft_wrap=True)
    if result.embeddings is not None:
        shown = result.embeddings
        console.print(
            f"  embeddings of {shown.samples} shared inputs: cosine at least {shown.smallest_cosine:.6f}, "
            f"mean {shown.mean_cosine:.6f}, largest difference {shown.largest_difference:.3g}",
            soft_wrap=True,
        )
