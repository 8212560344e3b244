"""Small real models that are hurt one by one, watched by a real Prometheus and a real Alertmanager."""

from observed.models import MODELS, NAMESPACE, Model
from observed.stack import Stack

__all__ = ["MODELS", "NAMESPACE", "Model", "Stack"]
