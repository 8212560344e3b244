"""``make bench-rollouts``: good and bad versions of the digits VAE take over from a stable one, or do not.

Run from the repository: ``python -m bench.rollouts [--only NAME] [--render]``. For every version `latentry up` serves
the stable one on the real Triton, five clients send real digits, the model's file is edited, and nobody does anything
else: what `latentry up` decides is the row. bench/rollouts_traffic.py says what counts as harm.
"""

import copy
import tempfile
import time
import timeit
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from bench import report
from bench import rollouts_bundles as bundles
from bench import rollouts_graphs as graphs
from bench.rollouts_run import HELD, REFUSED, Fault, Outcome, Rollouts, kill_under_load
from bench.rollouts_traffic import CLIENTS, Traffic
from examples.digits import train
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from latentry_serving.bundle.build import build_from_modules
from latentry_serving.bundle.spec import BundleSpec, Reference
from latentry_serving.contract.operations import Family

RESULTS = report.RESULTS.with_name("rollouts.json")
SLOW_SECONDS = 0.05
"""The latency objective of the model that is served."""
WARM_SECONDS = 10.0
"""Of users' traffic before the edit: what candidates are compared with."""
LEAK_MEGABYTES = 2.0
MEMORY_LIMIT = "1536Mi"
SLOWER_SECONDS = 0.05
_BCE = "BinaryCrossEntropy"
SPEC: Mapping[str, Any] = {
    "family": "VAE",
    "runtime": {"resources": {"limits": {"memory": MEMORY_LIMIT}}},
    "slo": {"availability": 99.9, "latency": [{"within": "50ms", "objective": 99}]},
    "monitoring": {
        "sampling": {"maxPerSecond": 200, "liveInputs": 400},
        "drift": {"window": 100},
        "golden": {"every": "2s"},
    },
    "rollout": {
        "strategy": "BlueGreen", "watchFor": "15s", "deadline": "60s", "keepFor": "30s",
        "analysis": {"maxLatencyRatio": 5, "longestWait": "1m"},
    },
}  # fmt: skip


class Workshop:
    """Where versions are made: the networks that stable serves, and the digits.

    Attributes:
        reference: images that versions are built with. live: what users send, each once.
        stable: the bundle that serves.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reference, self.live = bundles.digits(2, seed=1), bundles.digits(18, seed=2)
        self.dark_from = bundles.dark_from(self.reference)
        self.trained = train.train(self.reference)
        self.networks = self.exported("first", *self.trained)
        self.stable = self.build("1", self.networks)

    def exported(self, name: str, encoder: torch.nn.Module, decoder: torch.nn.Module) -> graphs.Networks:
        """Graphs of torch modules, as the product exports them."""
        np.save(self.folder / "reference.npy", self.reference)
        spec = BundleSpec(
            name=bundles.NAME, version=name, family=Family.VAE, latent_dimension=train.LATENT_DIMENSION,
            reference=Reference(path="reference.npy"),
        )  # fmt: skip
        out = self.folder / f"exported-{name}"
        build_from_modules(spec, encoder=encoder, decoder=decoder, base_dir=self.folder, out_dir=out, warn=_quiet)
        return bundles.networks_of(out)

    def build(self, version: str, networks: graphs.Networks, **more: Any) -> Path:
        """A bundle of that version; ``more`` goes to ``bundles.build``."""
        reference = more.pop("reference", self.reference)
        return bundles.build(networks, reference, self.folder / f"build-{version}", version, error=_BCE, **more)

    @property
    def without_dark(self) -> graphs.Images:
        """A reference that lacks the digits with most ink."""
        return self.reference[bundles.ink(self.reference) <= self.dark_from]

    def trained_on(self) -> graphs.Networks:
        """Stable's own training goes on for two more epochs, gently."""
        torch.manual_seed(8)
        encoder, decoder = (copy.deepcopy(module).train() for module in self.trained)
        optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-4)
        data = torch.from_numpy(self.reference)
        for batch in [b for _ in range(2) for b in data[torch.randperm(len(data))].split(train.BATCH)]:
            loss = train.negative_elbo(encoder, decoder, batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return self.exported("trained-on", encoder.eval(), decoder.eval())

    def slower(self) -> graphs.Networks:
        """Stable's networks and about ``SLOWER_SECONDS`` of work more for each execution, as measured here."""
        few, many = 20, 120

        def seconds(products: int) -> float:
            """Least of three: making the session is in it, which the difference leaves out."""
            encoder = graphs.slower(self.networks, products).encoder
            return min(timeit.repeat(lambda: graphs.run(encoder, self.live[:1]), number=1, repeat=3))

        each = (seconds(many) - seconds(few)) / (many - few)
        return graphs.slower(self.networks, max(few, round(SLOWER_SECONDS / each)))

    def sealed_again(self, name: str, change: Callable[[dict[str, Any], Path], None]) -> Path:
        return bundles.sealed_again(self.stable, self.folder / f"sealed-{name}", change)


@dataclass(frozen=True)
class Version:
    """One version: what is deployed, and what should become of it."""

    what: str
    make: Callable[[Workshop], Path]
    good: bool = False
    digest: str | None = None
    fault: Callable[[], Fault] | None = None


VERSIONS: Mapping[str, Version] = {
    "same weights": Version("stable's graphs under another version", lambda w: w.build("2", w.networks), good=True),
    "fp16": Version(
        "weights and arithmetic in float16", lambda w: w.build("2-fp16", graphs.half_precision(w.networks)), good=True
    ),
    "int8": Version(
        "weights and activations in int8, calibrated on the reference",
        lambda w: w.build("2-int8", graphs.eight_bits(w.networks, w.reference, w.folder / "int8")),
        good=True,
    ),
    "new space": Version(
        "latents turned by an orthogonal matrix, the decoder turns them back; a new space is declared, as it should be",
        lambda w: w.build("4b", graphs.rotated(w.networks), space=f"{bundles.NAME}-4b"),
        good=True,
    ),
    "NaN outputs": Version(
        "NaN for the 10 % of digits with most ink; its own reference lacks them, so that it passes its build",
        lambda w: w.build("3", graphs.undefined_when_dark(w.networks, w.dark_from), reference=w.without_dark),
    ),
    "rotated space": Version(
        "latents turned by an orthogonal matrix, the decoder turns them back; stable's space declared",
        lambda w: w.build("4", graphs.rotated(w.networks)),
    ),
    "trained on": Version(
        "two more epochs of training, stable's space declared: an eighth of the digits then find another's old vector",
        lambda w: w.build("2b", w.trained_on()),
    ),
    "slower": Version(
        f"{1000 * SLOWER_SECONDS:.0f} ms of products of matrices more for each execution, more than 10 times stable's",
        lambda w: w.build("5", w.slower()),
    ),
    "collapsed VAE": Version(
        "posterior = prior for every input, a profile of its own that knows no better; stable's space declared",
        lambda w: w.build("6", graphs.collapsed(w.networks)),
    ),
    "collapsed VAE, new space": Version(
        "the same, but a new space is declared: embeddings need not be those of stable",
        lambda w: w.build("6b", graphs.collapsed(w.networks), space=f"{bundles.NAME}-6b"),
    ),
    "changed output name": Version(
        "posterior_mean is called mu, in graph, configuration and contract; sealed again",
        lambda w: w.sealed_again("renamed", bundles.rename_output),
    ),
    "wrong digest": Version(
        "a good bundle, the file promises another digest",
        lambda w: w.build("2d", w.networks),
        digest=f"sha256:{'0' * 64}",
    ),
    "crash on load": Version(
        "the graph file ends in the middle; sealed again with right digests",
        lambda w: w.sealed_again("cut", bundles.cut_graph),
    ),
    "crash under load": Version(
        "a good bundle whose Triton is killed (SIGKILL, from outside) after 50 of the users' answers",
        lambda w: w.build("2k", w.networks),
        fault=lambda: kill_under_load(50),
    ),
    "memory leak": Version(
        f"scratch memory that grows with the number of requests and is never given back; the limit is {MEMORY_LIMIT}",
        lambda w: w.build("7", graphs.leaking(w.networks, LEAK_MEGABYTES)),
    ),
}


def run_version(workshop: Workshop, name: str) -> tuple[Outcome, dict[str, Any]]:
    """One rollout; the outcome and `latentry up`'s last word."""
    version = VERSIONS[name]
    bundle = version.make(workshop)
    right = {"stable": bundles.expected(workshop.stable, workshop.live)}
    if version.good:
        right["candidate"] = bundles.expected(bundle, workshop.live)
    rollouts = Rollouts(workshop.folder / f"run-{name.replace(' ', '-')}", "digits", SPEC, SLOW_SECONDS)
    with rollouts.serving(workshop.stable) as up:
        addresses = up.latest["addresses"]
        traffic = Traffic(addresses["http"], addresses["grpc"], bundles.NAME, workshop.live, right)
        with traffic.running():
            time.sleep(WARM_SECONDS)
            fault = version.fault() if version.fault is not None else None
            outcome = rollouts.roll(up, traffic, bundle, digest=version.digest, fault=fault)
        last = up.latest
    return outcome, last


def stopped(outcome: Outcome) -> bool:
    """Whether a bad version has no users at the end: given up, never started, or held without traffic."""
    return outcome.verdict in ("rolled back", REFUSED) or (outcome.verdict == HELD and not outcome.switched)


def row_of(name: str, outcome: Outcome) -> dict[str, Any]:
    """The results file's row."""
    version = VERSIONS[name]
    during = outcome.during
    return {
        "version": name,
        "deployed": version.what,
        "good": version.good,
        "outcome": outcome.verdict,
        "as_it_should": outcome.verdict == "promoted" if version.good else stopped(outcome),
        "why": outcome.why,
        "had_traffic": outcome.switched,
        "seconds_with_traffic": round(outcome.with_traffic_seconds, 1),
        "seconds_to_verdict": round(outcome.seconds, 1),
        "harmed_share": round(during.share, 5),
        **asdict(during),
        "answers": dict(outcome.answers),
        "stable_before": asdict(outcome.before),
        "happenings": list(outcome.happenings),
    }


_COLUMNS = ("version", "what was deployed", "what happened", "had traffic", "harmed", "of requests", "s to verdict")


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    harmed = row["failed"] + row["wrong"] + row["slow"]
    return (
        row["version"],
        row["deployed"],
        f"{row['outcome']}{reasons(row)}",
        f"{row['seconds_with_traffic']:g} s" if row["had_traffic"] else "no",
        f"{harmed} ({100 * row['harmed_share']:.2f} %)" if harmed else "0",
        f"{row['requests']:,}",
        f"{row['seconds_to_verdict']:g}",
    )


def reasons(row: Mapping[str, Any]) -> str:
    """`: gate (Reason)` of what spoke against it, or the beginning of the sentence; empty for what was promoted."""
    if row["outcome"] == "promoted":
        return ""
    if row["outcome"] == REFUSED:
        return " before anything started"
    found = [part.split(")")[0] + ")" for part in row["why"].split("gate ")[1:]]
    reason, _, sentence = row["why"].partition("(")[2].partition("): ")
    return f": {', '.join(found)}" if found else f": {reason}, {sentence[:60].rsplit(' ', 1)[0]} ..."


def table(rows: list[Mapping[str, Any]]) -> Table:
    """For a terminal of 80 columns: without what was deployed."""
    result = Table(_COLUMNS[0], *_COLUMNS[2:], box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for row in rows:
        name, _, *figures = map(escape, _cells(row))
        result.add_row(name, *figures, style="" if row["as_it_should"] else "bold red")
    return result


def summary(rows: list[Mapping[str, Any]]) -> dict[str, str]:
    good, bad = ([row for row in rows if row["good"] is kind] for kind in (True, False))
    unharmed = [row for row in bad if not row["failed"] + row["wrong"] + row["slow"]]
    worst = max(bad, key=lambda row: row["harmed_share"], default=None)
    facts = {
        "good versions promoted": f"{sum(row['as_it_should'] for row in good)} of {len(good)}",
        "requests that failed during good versions": f"{sum(row['failed'] for row in good)}",
        "bad versions rolled back, held or refused": f"{sum(row['as_it_should'] for row in bad)} of {len(bad)}",
        "bad versions that harmed nobody": f"{len(unharmed)} of {len(bad)}",
    }
    if worst is not None:
        facts["largest share harmed by a bad version"] = f"{100 * worst['harmed_share']:.2f} % ({worst['version']})"
    return facts


def markdown(results: Mapping[str, Any]) -> str:
    rows = results["rows"]
    lines = [
        f"{results['clients']} clients, {results['requests_per_second']} requests/s. "
        + ", ".join(f"{name} {value}" for name, value in results["machine"].items()) + ".",
        "",
        *(f"- {name}: {value}" for name, value in summary(rows).items()),
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'|'.join(['---'] * 3 + ['---:'] * 4)}|",
        *(f"| {' | '.join(_cells(row))} |" for row in rows),
    ]  # fmt: skip
    return "\n".join(lines)


def _quiet(_: str) -> None:
    """Hints about the bundle are not the matter here."""


def main(
    only: Annotated[list[str] | None, typer.Option(help="These versions; their rows replace the old ones.")] = None,
    render: Annotated[bool, typer.Option("--render", help="Only write the figures into the document.")] = False,
    keep: Annotated[Path | None, typer.Option(help="Make bundles and logs in this folder and leave them.")] = None,
) -> None:
    console = Console(highlight=False)
    if render:
        report.write_section(report.DOCUMENT, "rollout figures", markdown(report.load(RESULTS, make="bench-rollouts")))
        return
    torch.set_num_threads(1)
    done = {row["version"]: row for row in report.load(RESULTS)["rows"]} if only and RESULTS.is_file() else {}
    with tempfile.TemporaryDirectory(prefix="latentry-rollouts-") as scratch:
        workshop = Workshop(keep or Path(scratch))
        for name in only or VERSIONS:
            outcome, _ = run_version(workshop, name)
            done[name] = row_of(name, outcome)
            console.print(table([done[name]]))
            console.print(escape(outcome.why), style="dim")
            rows = [done[each] for each in VERSIONS if each in done]
            facts = report.machine_facts({})
            pace = f"{len(CLIENTS) * 25}"
            report.save({"machine": facts, "clients": len(CLIENTS), "requests_per_second": pace, "rows": rows}, RESULTS)
    console.print(table(rows))
    for name, value in summary(rows).items():
        console.print(f"{name}: {value}")


if __name__ == "__main__":
    typer.run(main)
