"""A real Alertmanager with a configuration of the project's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from observability.server import Server


class Alertmanager(Server):
    """Alertmanager with ``config``: the parsed YAML of manifests/alertmanager, its receivers pointed somewhere."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        super().__init__("alertmanager", folder, "/-/ready")
        self.config = folder / "alertmanager.yml"
        self.config.write_text(yaml.safe_dump(config))

    def command(self) -> Sequence[str | Path]:
        return [
            "prometheus-alertmanager",
            f"--config.file={self.config}",
            f"--storage.path={self.folder / 'alertmanager-data'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]

    def alerts(self) -> list[dict[str, Any]]:
        """Every alert it knows, with its status: active or suppressed, and by what."""
        found: list[dict[str, Any]] = self.get("/api/v2/alerts")
        return found
