"""Where Alertmanager's notifications end."""

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


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


class Webhook:
    """An HTTP server that keeps every notification."""

    def __init__(self) -> None:
        self.received: list[Notification] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                received.append(Notification(time.monotonic(), self.path, body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Notifications are kept, not logged."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
