"""The SLO compiler: a LatentModel in, Prometheus recording rules and alerts out. Pure."""
