"""The Grafana dashboards, written with grafana-foundation-sdk. A development tool: the operator ships what it makes."""
