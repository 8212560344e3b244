"""Everything at once: Tritons, a tap for each model, clients, the operator's metrics, Prometheus with the compiled
rules, Alertmanager with the project's example, and whoever is told."""

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from observability import Alertmanager, Exposition, Notification, Pace, Prometheus, Scrape, Webhook
from observability.server import eventually
from ports import free_port

from latentry_operator.plan.planner import plan
from latentry_operator.plan.types import PlanSettings
from latentry_operator.render.rule_files import rule_documents, write_rules
from latentry_serving.bundle.store import load_manifest
from latentry_serving.contract import triton_metrics
from latentry_serving.contract.ports import METRICS_PATH, TRITON_METRICS_PATH
from latentry_serving.contract.tap_config import Address, TapConfig
from latentry_serving.triton.local_repository import RuntimeOverrides
from observed import clients
from observed.bundles import build_encoder, build_vae, with_other_golden
from observed.cluster import Cluster
from observed.history import write_past
from observed.models import MODELS, NAMESPACE, Behind, Model
from observed.servers import START_SECONDS, Tap, Triton, Tritons

EXAMPLE = Path(__file__).parents[3] / "manifests" / "alertmanager" / "alertmanager.yaml"
SCRAPE_SECONDS, WATCHED_AFTER_SECONDS = 60.0, 120.0
_LOOKBACK_SECONDS = 300.0
CALLS_PER_SECOND = 5.0
_PATIENT = RuntimeOverrides(max_batch_size=clients.FULL_BATCH, max_queue_delay_us=700_000)


@dataclass(frozen=True)
class Serving:
    """A model with its tap and its clients."""

    model: Model
    tap: Tap
    client: clients.Client


class Stack:
    """A context manager; nothing is hurt until :meth:`hurt`.

    Args:
        pace: how much faster than real time rules, scrapes and routes are.
        scrape_seconds: in real time.
        elsewhere: metrics of what this machine has not, as Prometheus reads them.
        past: Unix time until which the models have served for six hours already, as far as Prometheus knows. Left
            out, windows begin to fill with the stack.
    """

    def __init__(
        self,
        folder: Path,
        pace: Pace,
        *,
        scrape_seconds: float = SCRAPE_SECONDS,
        elsewhere: str = "",
        past: int | None = None,
    ) -> None:
        self.folder = folder
        self.pace = pace
        self.webhook = Webhook()
        self.cluster = Cluster(NAMESPACE, [model.name for model in MODELS])
        self.serving: dict[str, Serving] = {}
        self.tritons: dict[Behind, Triton] = {}
        self.hurt_at: dict[str, float] = {}
        self._scrape_seconds = pace.seconds(scrape_seconds)
        self._exposition = Exposition(elsewhere)
        self._past = past
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for part in (self.webhook, self.cluster, self._exposition):
                stack.enter_context(part)
            self._bundles = self._build()
            tritons = stack.enter_context(Tritons())
            for behind in Behind:
                bundle = self._bundles["vae" if behind is Behind.SHARED else "encoder"]
                overrides = _PATIENT if behind is Behind.SLOW else None
                self.tritons[behind] = tritons.start(bundle, self.folder / f"triton-{behind}", overrides)
            for model in MODELS:
                self._start(model, stack)
            self._wait()
            self.prometheus = stack.enter_context(self._prometheus(stack))
            for one in self.serving.values():
                stack.enter_context(one.client)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._exit.close()

    def _build(self) -> dict[str, Path]:
        made = {}
        for name, build in (("vae", build_vae), ("encoder", build_encoder)):
            (self.folder / name).mkdir()
            made[name] = build(self.folder / name)
        return made | {"golden": with_other_golden(made["vae"], self.folder / "other-golden")}

    def _start(self, model: Model, stack: contextlib.ExitStack) -> None:
        config = self._config(model)
        tap = Tap(config, self.folder / f"tap-{model.name}")
        stack.callback(tap.stop)
        usual = clients.encode if model.vae else clients.encode_words
        step = {"healthy": clients.every_kind, "slow": clients.encode_full_batch}.get(model.name, usual)
        ports = {"http": config.http.port, "grpc": config.grpc.port}
        client = clients.Client(ports, step, CALLS_PER_SECOND)
        self.serving[model.name] = Serving(model, tap, client)

    def _config(self, model: Model) -> TapConfig:
        """What the planner makes of the resource, with the addresses of here."""
        bundle = self._bundles["vae" if model.vae else "encoder"]
        parsed = model.parsed(f"file://{bundle}", self._golden_seconds(model))
        (self.folder / "models").mkdir(exist_ok=True)
        (self.folder / "models" / f"{model.name}.yaml").write_text(parsed.model_dump_json(by_alias=True))
        config = plan(parsed, load_manifest(bundle), PlanSettings()).tap
        behind = self.tritons[model.behind].addresses
        return config.model_copy(
            update={
                **{name: Address(port=free_port()) for name in ("http", "grpc", "admin")},
                "upstream_http": behind.http,
                "upstream_grpc": behind.grpc,
                "upstream_metrics": behind.metrics,
                "drain_seconds": 1.0,
                "bundle_dir": str(bundle) if model.bundle else None,
            }
        )

    def _golden_seconds(self, model: Model) -> float:
        return max(1.0, self.pace.seconds(model.golden_every_s))

    def _rules(self) -> list[Path]:
        files = sorted((self.folder / "models").glob("*.yaml"))
        documents = rule_documents(files, self.pace.settings, operator=True)
        paced = {name: self.pace.rules(document) for name, document in documents.items()}
        return write_rules(paced, self.folder / "rules")

    def _scrapes(self) -> list[Scrape]:
        scrapes = [Scrape("operator", self.cluster.address), Scrape("elsewhere", self._exposition.address)]
        for name, one in self.serving.items():
            labels = {
                "namespace": NAMESPACE,
                "pod": f"{name}-0",
                "container": "tap",
                "endpoint": "admin",
                "latentry_dev_model": name,
                "latentry_dev_revision": f"{name}-r",
            }
            address = str(one.tap.config.admin)
            again = labels | {"metrics_path": TRITON_METRICS_PATH}
            scrapes.append(Scrape("taps", address, METRICS_PATH, labels))
            scrapes.append(Scrape("tritons", address, TRITON_METRICS_PATH, again, keep=triton_metrics.KEPT))
        return scrapes

    def _prometheus(self, stack: contextlib.ExitStack) -> Prometheus:
        for name in ("alertmanager", "prometheus"):
            (self.folder / name).mkdir()
        if self._past is not None:
            names = [model.name for model in MODELS]
            write_past(self.folder / "prometheus", names, CALLS_PER_SECOND, self._past)
        routes = self.pace.routes(yaml.safe_load(EXAMPLE.read_text()), self.webhook.url)
        self.alertmanager = stack.enter_context(Alertmanager(self.folder / "alertmanager", routes))
        return Prometheus(
            self.folder / "prometheus",
            self._scrapes(),
            self._rules(),
            self.alertmanager.address,
            self._scrape_seconds,
            max(self.pace.seconds(_LOOKBACK_SECONDS), 3 * self._scrape_seconds),
        )

    def _wait(self) -> None:
        """Until every Triton is ready and every tap that can be is."""
        for triton in self.tritons.values():
            assert triton.process.pid
        for one in self.serving.values():
            eventually(one.tap.ready, START_SECONDS, f"{one.tap.name} is ready")

    def drift(self, name: str) -> dict[str, Any]:
        """The tap's report."""
        found: dict[str, Any] = self.serving[name].tap.get("/drift").raise_for_status().json()
        return found

    def watched(self) -> None:
        """Returns once everything that is held against a profile has had a window judged."""
        for name in ("healthy", "drifts", "fails"):
            eventually(
                lambda name=name: any(tensor["windows"] for tensor in self.drift(name)["tensors"]),
                WATCHED_AFTER_SECONDS,
                f"a window of {name} is judged",
            )

    def interrupted(self, model: str) -> bool:
        """Whether the pages about a model's error budget ended and came again, as where a machine is too busy to
        scrape in time: what they hold back is told meanwhile, rightly."""
        alert = f'alertname="LatentryErrorBudgetBurn",severity="page",model="{model}",alertstate="firing"'
        span = f"{math.ceil(time.monotonic() - self.hurt_at[model])}s"
        (sample,) = self.prometheus.query(f"sum(resets((max(ALERTS{{{alert}}}) or vector(0))[{span}:250ms]))")
        return sample.value > 0

    def hurt(self) -> None:
        """Everything at once, each model in its own way."""
        self.hurt_at = {model.name: time.monotonic() for model in MODELS}
        for name in ("golden", "refused", "crowded"):
            self._spoil(self.serving[name])
        steps = {
            "drifts": clients.encode_drifted,
            "fails": clients.encode_and_fail,
            "nan": clients.encode_nan,
            "crowded": clients.crowd,
            "slow": clients.encode_words,
        }
        for name, step in steps.items():
            self.serving[name].client.step = step
        self.tritons[Behind.KILLED].kill()
        self.serving["dark"].tap.kill()
        for name in ("golden", "refused"):
            self.cluster.stall(name)
        self.cluster.use_up(waiting="waiting")

    def worsen(self) -> None:
        """What must come after something else is known: drift while errors are told, no replica after no data."""
        self.serving["fails"].client.step = clients.encode_drifted_and_fail
        self.cluster.none_ready("dark")

    def mend(self) -> None:
        """What can be mended without starting anything again."""
        self.serving["nan"].client.step = clients.encode
        self.serving["slow"].client.step = clients.encode_full_batch

    def _spoil(self, one: Serving) -> None:
        update = dict(one.model.spoilt)
        if one.model.name == "golden":
            other = self._bundles["golden"]
            update |= {"bundle_dir": str(other), "digest": load_manifest(other).digest}
        one.tap.serve(one.tap.config.model_copy(update=update))

    def told(self) -> list[Notification]:
        """Every notification so far."""
        return list(self.webhook.received)

    def firing(self, since: float | None = None) -> dict[str, set[tuple[str, str, str]]]:
        """Model -> (alert, severity, slo) of whatever has fired, suppressed or not.

        Args:
            since: monotonic seconds; left out: since the faults.
        """
        began = min(self.hurt_at.values(), default=0.0) if since is None else since
        window = f"{math.ceil(time.monotonic() - began)}s"
        ever = f'count by (model, alertname, severity, slo) (max_over_time(ALERTS{{alertstate="firing"}}[{window}]))'
        found: dict[str, set[tuple[str, str, str]]] = {}
        for one in self.prometheus.query(ever):
            alert = (one.labels["alertname"], one.labels["severity"], one.labels.get("slo", ""))
            found.setdefault(one.labels.get("model", ""), set()).add(alert)
        return found
