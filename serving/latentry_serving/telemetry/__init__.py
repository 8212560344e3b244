"""How the tap's figures leave it: Prometheus and OpenTelemetry."""
