"""The Helm chart, rendered by the real Helm.

Covered: lint, golden output for values files and Kubernetes versions, notes, CRDs with and without CEL, kept or not,
values the schema refuses, settings as the operator reads them, one Lease name everywhere, agreement with the kustomize
base, generated files up to date. Not covered: the API server's view (tests/wire/install).
"""

import copy
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from latentry_operator.plan.facts import ClusterSettings
from latentry_operator.settings import OperatorSettings, load_settings

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "latentry"
VALUES = Path(__file__).parent / "values"
CASES = [None, *sorted(path.stem for path in VALUES.glob("*.yaml"))]
NO_CRDS = ("--set", "crds.install=false")


def by_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in objects if one["kind"] == kind]


def only(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = by_kind(objects, kind)
    return found


@pytest.mark.parametrize("case", CASES)
def test_lint(case: str | None, helm: Any) -> None:
    values = [] if case is None else ["--values", VALUES / f"{case}.yaml"]
    done = helm("lint", "--strict", CHART, *values)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str | None, template: Any, golden: Any) -> None:
    golden(f"{case or 'defaults'}.yaml", template(case, *NO_CRDS))


def test_old_cluster_golden(template: Any, golden: Any) -> None:
    golden("two-replicas-1.20.yaml", template("two-replicas", *NO_CRDS, kube="1.20.2"))


@pytest.mark.parametrize("case", CASES)
def test_notes_golden(case: str | None, helm: Any, golden: Any) -> None:
    values = [] if case is None else ["--values", VALUES / f"{case}.yaml"]
    done = helm("install", "latentry", CHART, "--namespace", "latentry-system", "--dry-run=client", *values)
    assert done.returncode == 0, done.stderr
    golden(f"{case or 'defaults'}.notes.txt", done.stdout.partition("NOTES:\n")[2])


def source_crds() -> dict[str, Any]:
    files = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "manifests" / "crds").glob("*.yaml"))]
    return {one["metadata"]["name"]: one for one in files}


@pytest.mark.parametrize("kube", ["1.25.0", "1.25.3-gke.100", "1.31.0"])
def test_crds_are_those_of_manifests(kube: str, objects: Any) -> None:
    rendered = by_kind(objects(None, kube=kube), "CustomResourceDefinition")
    assert {one["metadata"]["name"]: one["spec"] for one in rendered} == {
        name: one["spec"] for name, one in source_crds().items()
    }
    for one in rendered:
        assert one["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "latentry"
        assert one["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


def without_cel(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: without_cel(value) for key, value in node.items() if key != "x-kubernetes-validations"}
    return [without_cel(value) for value in node] if isinstance(node, list) else node


@pytest.mark.parametrize("kube", ["1.20.2", "1.24.17-eks-1"])
def test_crds_of_old_clusters_lack_the_cel_rules_and_nothing_else(kube: str, objects: Any) -> None:
    rendered = by_kind(objects(None, kube=kube), "CustomResourceDefinition")
    expected = {name: without_cel(one["spec"]) for name, one in source_crds().items()}
    assert {one["metadata"]["name"]: one["spec"] for one in rendered} == expected
    assert expected != {name: one["spec"] for name, one in source_crds().items()}


def test_crds_go_with_the_release_only_where_asked(objects: Any) -> None:
    rendered = by_kind(objects("everything"), "CustomResourceDefinition")
    assert len(rendered) == 2
    assert all("annotations" not in one["metadata"] for one in rendered)


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("replicas=11", "at '/replicas': maximum: got 11, want 10"),
        ("replica=2", "additional properties 'replica' not allowed"),
        ("image.tag=a b", "at '/image/tag'"),
        ("image.digest=latest", "at '/image/digest'"),
        ("tapImage.pullPolicy=Always", "at '/tapImage': additional properties 'pullPolicy' not allowed"),
        ("watchNamespace=Team_A", "at '/watchNamespace'"),
        ("settings.workers=0", "at '/settings/workers': minimum: got 0, want 1"),
        ("settings.namespace=a", "at '/settings': additional properties 'namespace' not allowed"),
        ("settings.http.port=80", "at '/settings/http/port': minimum: got 80, want 1,024"),
        ("settings.logLevel=LOUD", "at '/settings/logLevel': value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ("crds.install=sometimes", "at '/crds/install': got string, want boolean"),
        ("podMonitor.interval=30", "at '/podMonitor/interval'"),
        ("serviceAccount.create=false", "serviceAccount.name: name the account"),
    ],
)
def test_wrong_values_are_refused_with_their_path(setting: str, complaint: str, helm: Any) -> None:
    done = helm("template", "latentry", CHART, "--set", setting)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_the_defaults_name_every_value_of_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert schema["properties"].keys() - {"global"} == defaults.keys()


def settings_of(objects: list[dict[str, Any]], folder: Path) -> OperatorSettings:
    file = folder / "operator.yaml"
    file.write_text(only(objects, "ConfigMap")["data"]["operator.yaml"])
    return load_settings(file)


@pytest.mark.parametrize("case", CASES)
def test_the_operator_reads_its_settings(case: str | None, objects: Any, tmp_path: Path) -> None:
    rendered = objects(case)
    settings = settings_of(rendered, tmp_path)
    container = only(rendered, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert [port["containerPort"] for port in container["ports"]] == [settings.http.port]
    if by_kind(rendered, "Role"):
        rules = only(rendered, "Role")["rules"]
        assert [rule.get("resourceNames") for rule in rules] == [None, [settings.leader.lease]]


def test_settings_over_the_charts_own(objects: Any, tmp_path: Path) -> None:
    settings = settings_of(objects("everything"), tmp_path)
    assert (settings.namespace, settings.workers, settings.leader.lease) == ("team-a", 4, "elected")
    assert settings.api.calls_per_second == 50
    assert settings.cluster.tap_image == "registry.example/tap:0.2.0"
    assert settings.cluster.triton_image == "registry.example/tritonserver:25.06-py3"
    assert settings.cluster.prometheus_url == "http://prometheus.monitoring:9090"
    assert settings.cluster.monitor_labels == {"release": "prometheus"}
    assert settings.cluster.run_as is None
    assert settings.cluster.tap.buffer_bytes == 1_000_000


def test_the_default_images_are_of_one_version(objects: Any, tmp_path: Path) -> None:
    rendered = objects(None)
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    (container,) = only(rendered, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"ghcr.io/latentry/operator:{version}"
    assert settings_of(rendered, tmp_path).cluster.tap_image == f"ghcr.io/latentry/tap:{version}"
    assert ClusterSettings().tap_image == f"ghcr.io/latentry/tap:{version}"


def test_the_schema_knows_the_operators_settings() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["settings"]["properties"]
    outside_a_pod = {"kubeconfig", "context"}
    names = {info.alias or name for name, info in OperatorSettings.model_fields.items()} - outside_a_pod - {"namespace"}
    assert {"".join(part.title() if at else part for at, part in enumerate(n.split("_"))) for n in names} == set(schema)


@pytest.mark.parametrize("namespace", ["", "team-a"])
def test_rights_are_those_of_the_role_file(namespace: str, objects: Any) -> None:
    rendered = objects(None, "--set", f"watchNamespace={namespace}")
    roles = {(one["kind"], one["metadata"]["name"]): one["rules"] for one in rendered if one["kind"].endswith("Role")}
    files = [ROOT / "manifests" / "operator" / name for name in ("role.yaml", "user-roles.yaml")]
    documents = [one for path in files for one in yaml.safe_load_all(path.read_text())]
    assert roles == {(one["kind"], one["metadata"]["name"]): one["rules"] for one in documents}
    bound = {
        (one["kind"], one["roleRef"]["name"], one["metadata"].get("namespace")) for one in rendered if "roleRef" in one
    }
    models = (
        ("RoleBinding", "latentry-operator", namespace)
        if namespace
        else ("ClusterRoleBinding", "latentry-operator", None)
    )
    assert bound == {
        models,
        ("ClusterRoleBinding", "latentry-operator-pools", None),
        ("RoleBinding", "latentry-operator", "latentry-system"),
    }


def plain(manifest: dict[str, Any]) -> dict[str, Any]:
    """Without what tells the tool that made it, and with the hash of the settings in one place."""
    result = copy.deepcopy(manifest)
    metadata = result["metadata"]
    labels = metadata.get("labels", {})
    for name in ("app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"):
        labels.pop(name, None)
    if result["kind"] == "CustomResourceDefinition":
        metadata["labels"] = {"app.kubernetes.io/part-of": labels["app.kubernetes.io/part-of"]}
        metadata.pop("annotations", None)
    if result["kind"] == "ConfigMap":
        metadata["name"] = metadata["name"][: len("latentry-operator-settings")]
        result["data"] = {}
    if result["kind"] == "Deployment":
        template = result["spec"]["template"]
        template["metadata"].pop("annotations", None)
        (volume,) = template["spec"]["volumes"]
        volume["configMap"]["name"] = volume["configMap"]["name"][: len("latentry-operator-settings")]
    return result


def test_kustomize_and_helm_install_the_same(kubectl: Any, objects: Any, tmp_path: Path) -> None:
    built = kubectl("kustomize", "manifests")
    assert built.returncode == 0, built.stderr
    kustomized = list(yaml.safe_load_all(built.stdout))

    def keyed(manifests: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
        found = [plain(one) for one in manifests if one["kind"] != "Namespace"]
        return {(one["kind"], one["metadata"]["name"]): one for one in found}

    assert keyed(kustomized) == keyed(objects(None))
    (folder := tmp_path / "kustomize").mkdir()
    assert settings_of(kustomized, folder) == settings_of(objects(None), tmp_path)


def test_generated_files_are_up_to_date() -> None:
    files = runpy.run_path(str(ROOT / "scripts" / "generate"))["generated"]()
    assert {path for path in files if path.is_relative_to("charts")} == {
        path.relative_to(ROOT) for path in (CHART / "files").rglob("*.yaml")
    }
    for path, text in files.items():
        assert (ROOT / path).read_text() == text, f"{path} is old: make generate"
