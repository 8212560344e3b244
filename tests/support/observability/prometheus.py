"""A real Prometheus that scrapes what it is told and evaluates rule files."""

import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from observability.server import Server, eventually


@dataclass(frozen=True, slots=True)
class Scrape:
    """One target: its address and path, and the labels that a PodMonitor would add (namespace, pod, ...).

    Attributes:
        keep: names of the metrics that are kept; empty keeps all.
    """

    job: str
    address: str
    path: str = "/metrics"
    labels: Mapping[str, str] = field(default_factory=dict)
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """One sample of an instant query."""

    labels: Mapping[str, str]
    value: float


class Prometheus(Server):
    """Prometheus over ``scrapes`` with ``rules``, every ``seconds``; samples older than the lookback are forgotten."""

    def __init__(
        self,
        folder: Path,
        scrapes: Sequence[Scrape],
        rules: Sequence[Path] = (),
        alertmanager: str | None = None,
        seconds: float = 1,
        lookback_seconds: float = 300,
    ) -> None:
        super().__init__("prometheus", folder, "/-/ready")
        every = f"{round(seconds * 1000)}ms"
        self._lookback = f"{round(lookback_seconds * 1000)}ms"
        config: dict[str, Any] = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [_job(name, scrapes) for name in dict.fromkeys(scrape.job for scrape in scrapes)],
        }
        if alertmanager is not None:
            config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
        self.config = folder / "prometheus.yml"
        self.config.write_text(yaml.safe_dump(config))

    def command(self) -> Sequence[str | Path]:
        return [
            "prometheus",
            f"--config.file={self.config}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--enable-feature=exemplar-storage,native-histograms",
            f"--query.lookback-delta={self._lookback}",
            "--rules.alert.resend-delay=1s",
            "--log.level=warn",
        ]

    def query(self, expression: str) -> list[Series]:
        """The instant vector now; a scalar as one series without labels."""
        found = self.get(f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")["data"]
        if found["resultType"] == "scalar":
            return [Series({}, float(found["result"][1]))]
        return [Series(one["metric"], float(one["value"][1])) for one in found["result"]]

    def until(self, expression: str, seconds: float = 60) -> list[Series]:
        """The first answer that is not empty."""
        found: list[Series] = eventually(lambda: self.query(expression), seconds, expression)
        return found

    def alerts(self, state: str = "firing") -> list[Mapping[str, str]]:
        """Labels of the alerts in that state."""
        found = self.get("/api/v1/alerts")["data"]["alerts"]
        return [alert["labels"] for alert in found if alert["state"] == state]

    def unhealthy(self) -> list[str]:
        """What is wrong with rules and targets, as Prometheus says it."""
        groups = self.get("/api/v1/rules")["data"]["groups"]
        rules = [f"{r['name']}: {r['lastError']}" for g in groups for r in g["rules"] if r.get("lastError")]
        targets = self.get("/api/v1/targets")["data"]["activeTargets"]
        return rules + [f"{t['scrapeUrl']}: {t['lastError']}" for t in targets if t["lastError"]]


def _job(name: str, scrapes: Sequence[Scrape]) -> dict[str, Any]:
    mine = [scrape for scrape in scrapes if scrape.job == name]
    keep = {"source_labels": ["__name__"], "regex": "|".join(mine[0].keep), "action": "keep"}
    return {
        "metric_relabel_configs": [keep] if mine[0].keep else [],
        "job_name": name,
        "honor_labels": True,
        "metrics_path": mine[0].path,
        "static_configs": [{"targets": [scrape.address], "labels": dict(scrape.labels)} for scrape in mine],
    }
