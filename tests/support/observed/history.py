"""Six hours of undisturbed traffic in Prometheus' own blocks, so that windows are as full as they are in production.

The windows up to an hour are measured from counters, longer ones from the rates recorded of these: so much is written.
"""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from latentry_operator.slo import names
from latentry_serving.contract import metrics
from observed.models import NAMESPACE

_EVERY_S, _COUNTERS_S, _RECORDED_S = 30, 3_600, 6 * 3_600
_CALL = 'operation="encode",protocol="grpc",kind="unary"'
_SLOS = ("availability", "latency-500ms")
_WITHIN = "0.5"


def write_past(folder: Path, models: Sequence[str], per_second: float, now: int) -> None:
    """Blocks in ``folder/data`` of a pod that answered ``per_second`` calls until ``now``, Unix time."""
    text = folder / "past.txt"
    with text.open("w") as file:
        file.writelines(f"{line}\n" for line in _lines(models, per_second, now))
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _lines(models: Sequence[str], per_second: float, now: int) -> Iterator[str]:
    duration = metrics.REQUEST_DURATION_SECONDS
    for name, more in (
        (metrics.REQUESTS_TOTAL, f'{_CALL},outcome="ok"'),
        (f"{duration}_count", 'operation="encode",kind="unary"'),
        (f"{duration}_bucket", f'operation="encode",kind="unary",le="{_WITHIN}"'),
    ):
        for model in models:
            labels = f'namespace="{NAMESPACE}",pod="{model}-before",model="{model}",version="7",{more}'
            for at in range(now - _COUNTERS_S, now, _EVERY_S):
                yield f"{name}{{{labels}}} {per_second * (at - now + _COUNTERS_S)} {at}"
    for name, rate in ((names.EVENTS_RATE, per_second), (names.ERROR_EVENTS_RATE, 0.0)):
        for model in models:
            for slo in _SLOS:
                labels = f'namespace="{NAMESPACE}",model="{model}",slo="{slo}"'
                for at in range(now - _RECORDED_S, now, _EVERY_S):
                    yield f"{name}{{{labels}}} {rate} {at}"
    yield "# EOF"
