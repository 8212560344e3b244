"""Triton's own spans: off unless asked for, the same words in a pod of either workload and on one machine."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from latentry_operator.cli import app
from latentry_operator.plan.cluster import ClusterSettings
from latentry_operator.render import render
from latentry_serving.contract.tap_config import Address
from latentry_serving.contract.triton_traces import TraceExport
from latentry_serving.triton import process
from latentry_serving.triton.process import Addresses, TritonSettings

URL = "http://collector:4318/v1/traces"
TRACES = [
    "--trace-config=mode=opentelemetry",
    "--trace-config=level=TIMESTAMPS",
    "--trace-config=rate=0",
    f"--trace-config=opentelemetry,url={URL}",
    "--trace-config=opentelemetry,resource=service.name=digits-vae",
]


def traces(arguments: list[str]) -> list[str]:
    return [argument for argument in arguments if argument.startswith("--trace-config")]


@pytest.mark.parametrize("workload", ["KServe", "Deployment"])
@pytest.mark.parametrize(("url", "expected"), [(None, []), (URL, TRACES)])
def test_in_a_pod(plan: Any, workload: str, url: str | None, expected: list[str]) -> None:
    made = plan(workload=workload, settings=ClusterSettings(triton_traces_url=url))
    kind = "ServingRuntime" if workload == "KServe" else "Deployment"
    (spec,) = [one["spec"] for one in render(made) if one["kind"] == kind]
    containers = spec["containers"] if workload == "KServe" else spec["template"]["spec"]["containers"]
    (arguments,) = [one["args"] for one in containers if one.get("command") == ["tritonserver"]]
    assert traces(arguments) == expected


@pytest.mark.parametrize(("export", "expected"), [(None, []), (TraceExport(URL, "digits-vae"), TRACES)])
def test_on_one_machine(export: TraceExport | None, expected: list[str]) -> None:
    somewhere = Address(port=1)
    addresses = Addresses(http=somewhere, grpc=somewhere, metrics=somewhere)
    arguments = process._arguments(Path("r"), addresses, TritonSettings(traces=export), "p")
    assert traces(arguments) == expected


def test_what_is_no_url_is_refused() -> None:
    done = CliRunner().invoke(app, ["up", "model.yaml", "--triton-traces", "collector:4318"])
    assert done.exit_code == 2
    assert "is no URL" in done.output
