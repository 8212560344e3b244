"""Custom resource definitions for tests: the published ones of tests/data/crds, and our own of manifests/crds."""

import gzip
import json
import time
from collections.abc import Iterable
from typing import Any

import httpx
import yaml

from kube.assets import REPOSITORY

Obj = dict[str, Any]
PUBLISHED = REPOSITORY / "tests" / "data" / "crds"
OURS = REPOSITORY / "manifests" / "crds"
PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
FIRST_MINOR_WITH_CEL = 25
ESTABLISHED_SECONDS = 60.0


def upstream_crds(*groups: str) -> list[Obj]:
    """The published definitions of ``kserve``, ``gateway-api``, ``keda``, ``prometheus-operator``; by default of all.

    Raises:
        ValueError: a group of that name is not in tests/data/crds.
    """
    known = sorted(path.name for path in PUBLISHED.iterdir() if path.is_dir())
    unknown = set(groups) - set(known)
    if unknown:
        raise ValueError(f"no CRDs of {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    files = [path for group in groups or known for path in sorted((PUBLISHED / group).glob("*.json.gz"))]
    return [json.loads(gzip.decompress(path.read_bytes())) for path in files]


def our_crds() -> list[Obj]:
    """The definitions that this project installs."""
    return [entry for path in sorted(OURS.glob("*.yaml")) for entry in yaml.safe_load_all(path.read_text()) if entry]


def without_cel(node: Any) -> Any:
    """The same schema without ``x-kubernetes-validations``, which servers before 1.25 refuse as an unknown field."""
    if isinstance(node, dict):
        return {key: without_cel(value) for key, value in node.items() if key != "x-kubernetes-validations"}
    if isinstance(node, list):
        return [without_cel(value) for value in node]
    return node


def server_minor(http: httpx.Client) -> int:
    """The minor version of the server, 20 for 1.20."""
    return int(http.get("/version").raise_for_status().json()["minor"].rstrip("+"))


def install_crds(http: httpx.Client, definitions: Iterable[Obj]) -> list[str]:
    """Apply the definitions (server-side: the largest exceeds an annotation's limit), wait until all are served.

    Returns:
        The names of the definitions.

    Raises:
        httpx.HTTPStatusError: the server refused one; the message carries the server's.
        TimeoutError: one was not established within a minute.
    """
    cel = server_minor(http) >= FIRST_MINOR_WITH_CEL
    names = []
    for definition in definitions:
        body = definition if cel else without_cel(definition)
        names.append(body["metadata"]["name"])
        answer = http.patch(
            f"{PATH}/{names[-1]}",
            params={"fieldManager": "test-setup", "force": "true"},
            headers={"Content-Type": "application/apply-patch+yaml"},
            content=json.dumps(body),
        )
        if answer.is_error:
            problem = f"{names[-1]}: {answer.status_code} {answer.text[:2000]}"
            raise httpx.HTTPStatusError(problem, request=answer.request, response=answer)
    for name in names:
        _wait_established(http, name)
    return names


def _wait_established(http: httpx.Client, name: str) -> None:
    deadline = time.monotonic() + ESTABLISHED_SECONDS
    while time.monotonic() < deadline:
        status = http.get(f"{PATH}/{name}").raise_for_status().json().get("status", {})
        conditions = status.get("conditions") or []  # null in the first instant
        if any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions):
            return
        time.sleep(0.05)
    raise TimeoutError(f"CRD {name} was not established within {ESTABLISHED_SECONDS:.0f} s: {conditions}")
