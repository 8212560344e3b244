"""A real Prometheus and a real Alertmanager on loopback, and a receiver that keeps what it is told."""

from observability.alertmanager import Alertmanager
from observability.exposition import Exposition
from observability.pace import Pace
from observability.prometheus import Prometheus, Scrape, Series
from observability.webhook import Notification, Webhook

__all__ = ["Alertmanager", "Exposition", "Notification", "Pace", "Prometheus", "Scrape", "Series", "Webhook"]
