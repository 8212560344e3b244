"""Rules and routes as they are, with every length of time divided by one factor.

Alerts wait for minutes and look back over hours. At a factor of 60 a minute is a second: windows, ``for``, intervals of
evaluation and Alertmanager's waits all shrink alike, so that what happens is what would happen, sooner.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latentry_operator.slo.types import RuleSettings
from latentry_serving.contract.units import Duration

_RANGE = re.compile(r"(?<=\[)\w+(?=\])")
_WAITS = ("group_wait", "group_interval", "repeat_interval")


@dataclass(frozen=True, slots=True)
class Pace:
    """How many times faster than real time."""

    factor: int = 1

    def seconds(self, real: float) -> float:
        """What of a real time is left."""
        return real / self.factor

    def duration(self, text: str) -> str:
        """The same of a length of time as Prometheus writes it."""
        return f"{round(Duration.parse(text).nanoseconds / self.factor / 1e6)}ms"

    @property
    def settings(self) -> RuleSettings:
        """For compiling: rules that count errors multiply by the interval in which they are evaluated."""
        every = RuleSettings().every
        return RuleSettings(every=Duration(every.nanoseconds // self.factor), runbook_url="https://runbooks.example")

    def rules(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """A rule document compiled with :attr:`settings`."""
        return {"groups": [self._group(group) for group in document["groups"]]}

    def _group(self, group: Mapping[str, Any]) -> dict[str, Any]:
        interval = group["interval"]
        if interval != str(self.settings.every):
            interval = self.duration(interval)
        return {**group, "interval": interval, "rules": [self._rule(rule) for rule in group["rules"]]}

    def _rule(self, rule: Mapping[str, Any]) -> dict[str, Any]:
        changed = {"expr": _RANGE.sub(lambda match: self.duration(match[0]), rule["expr"])}
        if "for" in rule:
            changed["for"] = self.duration(rule["for"])
        return {**rule, **changed}

    def routes(self, config: Mapping[str, Any], url: str) -> dict[str, Any]:
        """Alertmanager's configuration with each receiver's path at ``url``."""
        receivers = [_pointed_at(receiver, url) for receiver in config["receivers"]]
        return {**config, "route": self._route(config["route"]), "receivers": receivers}

    def _route(self, route: Mapping[str, Any]) -> dict[str, Any]:
        waits = {name: self.duration(route[name]) for name in _WAITS if name in route}
        children = {"routes": [self._route(child) for child in route["routes"]]} if "routes" in route else {}
        return {**route, **waits, **children}


def _pointed_at(receiver: Mapping[str, Any], url: str) -> dict[str, Any]:
    hooks = [
        {**hook, "url": url + re.sub(r"^https?://[^/]+", "", hook["url"])}
        for hook in receiver.get("webhook_configs", ())
    ]
    return {**receiver, "webhook_configs": hooks} if hooks else dict(receiver)
