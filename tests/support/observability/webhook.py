"""Where Alertmanager's notifications end."""

import json
import time
from dataclasses import dataclass
from typing import Any

from played_http import Answer, Call, PlayedHttp


@dataclass(frozen=True, slots=True)
class Notification:
    """One call of the webhook: when it came (monotonic seconds), at which path, and what it said."""

    at: float
    path: str
    body: dict[str, Any]

    @property
    def alerts(self) -> list[tuple[str, str]]:
        """Name and status of each alert in it."""
        return [(alert["labels"]["alertname"], alert["status"]) for alert in self.body["alerts"]]


class Webhook(PlayedHttp):
    """Keeps every notification."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Notification] = []
        self.url = f"http://{self.address}"

    def answer(self, call: Call) -> Answer:
        self.received.append(Notification(time.monotonic(), call.path, json.loads(call.body)))
        return Answer()
