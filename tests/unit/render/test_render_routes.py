"""Routes and the revisions' Services: made only where spec and cluster have both ends, weights as decided."""

from typing import Any

import pytest
import yaml

from latentry_operator.api.parse import check_resource
from latentry_operator.plan.cluster import Capabilities, ClusterPlan
from latentry_operator.plan.exposure import Exposure
from latentry_operator.render import render
from latentry_operator.render.service import revision_behind

STABLE = "digits-vae-00000000"
GATEWAY = {
    "parentRefs": [{"name": "shared", "namespace": "infra", "sectionName": "https"}],
    "hostnames": ["digits.example.com"],
    "grpcHostnames": ["digits-grpc.example.com"],
}
ROUTES = """
- apiVersion: gateway.networking.k8s.io/v1
  kind: HTTPRoute
  spec:
    parentRefs:
    - {group: gateway.networking.k8s.io, kind: Gateway, name: shared, namespace: infra, sectionName: https}
    hostnames: [digits.example.com]
    rules:
    - matches: [{path: {type: PathPrefix, value: /}}]
      filters:
      - type: RequestMirror
        requestMirror: {backendRef: {group: '', kind: Service, name: CANDIDATE-route, port: 80}}
      backendRefs:
      - {group: '', kind: Service, name: digits-vae-00000000-route, port: 80, weight: 95}
      - {group: '', kind: Service, name: CANDIDATE-route, port: 80, weight: 5}
- apiVersion: gateway.networking.k8s.io/v1
  kind: GRPCRoute
  spec:
    parentRefs:
    - {group: gateway.networking.k8s.io, kind: Gateway, name: shared, namespace: infra, sectionName: https}
    hostnames: [digits-grpc.example.com]
    rules:
    - filters:
      - type: RequestMirror
        requestMirror: {backendRef: {group: '', kind: Service, name: CANDIDATE-route, port: 9000}}
      backendRefs:
      - {group: '', kind: Service, name: digits-vae-00000000-route, port: 9000, weight: 95}
      - {group: '', kind: Service, name: CANDIDATE-route, port: 9000, weight: 5}
"""


def divided(plan: ClusterPlan, **changes: Any) -> Exposure:
    shares = {STABLE: 95, plan.revision: 5}
    base: dict[str, Any] = {"selected": STABLE, "shares": shares, "revisions": (STABLE, plan.revision)}
    return Exposure(**(base | changes))


def of_kind(manifests: Any, *kinds: str) -> list[Any]:
    return [one for one in manifests if one["kind"] in kinds]


def test_weights_and_copies(plan: Any) -> None:
    made = plan(gateway=GATEWAY)
    found = of_kind(render(made, divided(made, mirror=made.revision)), "HTTPRoute", "GRPCRoute")
    for route in found:
        metadata = route.pop("metadata")
        assert (metadata["name"], metadata["labels"]["latentry.dev/model"]) == ("digits-vae", "digits-vae")
        assert "latentry.dev/revision" not in metadata["labels"]
        route["spec"]["rules"][0]["backendRefs"].sort(key=lambda backend: -backend["weight"])
    assert found == yaml.safe_load(ROUTES.replace("CANDIDATE", made.revision))


def test_each_revision_has_a_service_of_its_own(plan: Any) -> None:
    made = plan(gateway=GATEWAY)
    services = of_kind(render(made, divided(made)), "Service")
    own = {one["metadata"]["name"]: one for one in services}
    assert set(own) == {"digits-vae", f"{STABLE}-route", f"{made.revision}-route"}
    assert own["digits-vae"]["spec"]["selector"]["latentry.dev/revision"] == STABLE
    for revision in (STABLE, made.revision):
        service = own[f"{revision}-route"]
        assert service["metadata"]["labels"]["latentry.dev/revision"] == revision
        assert service["spec"]["selector"]["latentry.dev/revision"] == revision
        assert revision_behind(service["metadata"]["name"]) == revision
        assert service["spec"]["ports"] == own["digits-vae"]["spec"]["ports"]
    assert revision_behind("digits-vae") == ""


def test_at_rest_all_goes_to_the_plans_revision(objects: Any, plan: Any) -> None:
    revision = plan(gateway=GATEWAY).revision
    found = render(plan(gateway=GATEWAY))
    (route,) = of_kind(found, "HTTPRoute")
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    assert (backend["name"], backend["weight"]) == (f"{revision}-route", 100)
    assert "filters" not in route["spec"]["rules"][0]


@pytest.mark.parametrize(
    ("gateway", "able", "kinds"),
    [
        (None, {}, set()),
        (GATEWAY, {"http_route": False}, set()),
        (GATEWAY, {"grpc_route": False}, set()),
        (GATEWAY | {"grpcHostnames": []}, {"grpc_route": False}, {"HTTPRoute"}),
        (GATEWAY | {"hostnames": []}, {}, {"GRPCRoute"}),
    ],
)
def test_routes_only_where_all_that_is_asked_for_can_be(
    gateway: Any, able: dict[str, bool], kinds: set[str], plan: Any
) -> None:
    made = plan(capabilities=Capabilities(**able), **({"gateway": gateway} if gateway else {}))
    found = render(made, divided(made))
    assert {one["kind"] for one in of_kind(found, "HTTPRoute", "GRPCRoute")} == kinds
    assert len(of_kind(found, "Service")) == (3 if kinds else 1)


def test_while_nothing_may_serve_there_is_no_route(plan: Any) -> None:
    made = plan(gateway=GATEWAY)
    assert of_kind(render(made, divided(made, shares={})), "HTTPRoute", "GRPCRoute") == []


@pytest.mark.parametrize("workload", ["Deployment", "KServe"])
def test_a_revision_that_was_given_up_has_no_objects(plan: Any, workload: str) -> None:
    made = plan(workload=workload, gateway=GATEWAY)
    found = render(made, Exposure(STABLE, {STABLE: 100}, revisions=(STABLE,), runs=False))
    assert made.revision not in {one["metadata"]["name"] for one in found}
    assert {"Service", "NetworkPolicy", "ServiceAccount", "HTTPRoute"} <= {one["kind"] for one in found}


def test_replicas_for_the_share(plan: Any) -> None:
    fixed = plan(workload="Deployment", scaling={"metric": "None", "minReplicas": 4})
    (deployment,) = of_kind(render(fixed, divided(fixed, replicas=1)), "Deployment")
    assert deployment["spec"]["replicas"] == 1
    scaled = plan(
        workload="Deployment",
        scaling={"metric": "CPU", "minReplicas": 1, "maxReplicas": 3},
        runtime={"resources": {"requests": {"cpu": "1"}}},
    )
    for asked, least in ((1, 1), (2, 2), (9, 3)):
        (autoscaler,) = of_kind(render(scaled, divided(scaled, replicas=asked)), "HorizontalPodAutoscaler")
        assert (autoscaler["spec"]["minReplicas"], autoscaler["spec"]["maxReplicas"]) == (least, 3)


@pytest.mark.parametrize(
    ("gateway", "path"),
    [
        ({"parentRefs": [{"name": "shared"}]}, "spec.gateway"),
        (GATEWAY | {"grpcHostnames": ["digits.example.com"]}, "spec.gateway.grpcHostnames[0]"),
        ({"parentRefs": [], "hostnames": ["a.example.com"]}, "spec.gateway.parentRefs"),
        ({"parentRefs": [{"name": "shared"}], "hostnames": ["a b"]}, "spec.gateway.hostnames[0]"),
    ],
)
def test_what_is_refused(gateway: Any, path: str) -> None:
    body = {
        "apiVersion": "latentry.dev/v1alpha1",
        "kind": "LatentModel",
        "metadata": {"name": "digits"},
        "spec": {
            "family": "Encoder",
            "bundle": {"uri": "s3://models/digits", "digest": "sha256:" + "ab" * 32},
            "gateway": gateway,
        },
    }
    _, problems = check_resource(body)
    assert [problem.path for problem in problems] == [path]
