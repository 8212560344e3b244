"""The stand-in for the kubelet and KServe's controller.

Covered: Deployments that get ready, late, never (crash, no image, no room); a roll-out that gets stuck while the old
pods serve; InferenceServices ready, failed, without runtime, deleted; KServe's traps; scripting by annotation; its
own end.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kube import CRASH, NO_IMAGE, NO_ROOM, READY, Api, ControlPlane, StandIn, kinds, slow
from kube.api import Obj
from kube.assets import REPOSITORY
from kube.behaviour import ANNOTATION

ENVIRON = os.environ | {"PYTHONPATH": str(REPOSITORY / "tests" / "support")}
DEADLINE_S = 2
"""progressDeadlineSeconds of the Deployments here: how long the real deployment controller waits before it gives up."""


def deployment(name: str, *, image: str = "one", replicas: int = 2, annotations: dict[str, str] | None = None) -> Obj:
    template = {
        "metadata": {"labels": {"app": name}, "annotations": annotations or {}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }
    spec = {
        "replicas": replicas,
        "progressDeadlineSeconds": DEADLINE_S,
        "selector": {"matchLabels": {"app": name}},
        "template": template,
    }
    return {"metadata": {"name": name}, "spec": spec}


def condition(found: Obj | None, kind: str) -> tuple[str | None, str | None]:
    """(status, reason) of a condition."""
    for entry in (found or {}).get("status", {}).get("conditions", []):
        if entry["type"] == kind:
            return entry["status"], entry.get("reason")
    return None, None


def available(replicas: int) -> Any:
    return lambda found: (found or {}).get("status", {}).get("availableReplicas", 0) == replicas


async def until_a_pod_says(reason: str, api: Api, namespace: str) -> None:
    """Wait for it: a deadline may pass before there is a pod, where the controllers have much to catch up with."""
    async with asyncio.timeout(60):
        while True:
            for pod in (await api.list(kinds.pod, namespace))["items"]:
                waiting = [entry["state"]["waiting"]["reason"] for entry in pod["status"].get("containerStatuses", [])]
                if reason in [*waiting, condition(pod, "PodScheduled")[1]]:
                    return
            await asyncio.sleep(0.05)


async def test_a_deployment_gets_ready(api: Api, namespace: str) -> None:
    await api.create(kinds.deployment, namespace, deployment("web"))
    found = await api.until(kinds.deployment, namespace, "web", available(2))
    assert found is not None
    status = found["status"]
    assert (status["observedGeneration"], status["replicas"], status["updatedReplicas"]) == (1, 2, 2)
    assert condition(found, "Available") == ("True", "MinimumReplicasAvailable")


async def test_a_slow_deployment_gets_ready_later(api: Api, namespace: str, stand_in: StandIn) -> None:
    stand_in.script(namespace, "late", slow(1.5))
    await api.create(kinds.deployment, namespace, deployment("late", replicas=1))
    early = await api.until(
        kinds.deployment, namespace, "late", lambda found: condition(found, "Available")[0] == "False"
    )
    assert early is not None
    assert early["status"].get("availableReplicas", 0) == 0
    await api.until(kinds.deployment, namespace, "late", available(1))


@pytest.mark.parametrize(
    ("behaviour", "shown"), [(CRASH, "CrashLoopBackOff"), (NO_IMAGE, "ImagePullBackOff"), (NO_ROOM, "Unschedulable")]
)
async def test_a_failing_deployment_exceeds_its_deadline_and_its_pods_say_why(
    api: Api, namespace: str, stand_in: StandIn, behaviour: Any, shown: str
) -> None:
    stand_in.script(namespace, "bad*", behaviour)
    await api.create(kinds.deployment, namespace, deployment("bad-one", replicas=1))
    exceeded = ("False", "ProgressDeadlineExceeded")
    await api.until(kinds.deployment, namespace, "bad-one", lambda found: condition(found, "Progressing") == exceeded)
    await until_a_pod_says(shown, api, namespace)


async def test_a_stuck_rollout_keeps_the_old_pods_until_it_is_scripted_ready(
    api: Api, namespace: str, stand_in: StandIn
) -> None:
    await api.create(kinds.deployment, namespace, deployment("web"))
    await api.until(kinds.deployment, namespace, "web", available(2))

    def is_new(pod: Obj) -> bool:
        return bool(pod["spec"]["containers"][0]["image"] == "two")

    stand_in.script(namespace, "web", CRASH, when=is_new)
    await api.merge(kinds.deployment, namespace, "web", {"spec": deployment("web", image="two")["spec"]})
    exceeded = ("False", "ProgressDeadlineExceeded")
    stuck = await api.until(
        kinds.deployment,
        namespace,
        "web",
        lambda found: bool(
            found and condition(found, "Progressing") == exceeded and found["status"].get("updatedReplicas") == 1
        ),
    )
    assert condition(stuck, "Available")[0] == "True"

    stand_in.script(namespace, "web", READY)
    done = await api.until(
        kinds.deployment,
        namespace,
        "web",
        lambda found: bool(found and found["status"].get("updatedReplicas") == found["status"]["replicas"] == 2),
    )
    assert done is not None


async def test_ready_pods_that_fail_make_the_deployment_unavailable(
    api: Api, namespace: str, stand_in: StandIn
) -> None:
    await api.create(kinds.deployment, namespace, deployment("web"))
    await api.until(kinds.deployment, namespace, "web", available(2))
    stand_in.script(namespace, "web", CRASH)
    await api.until(kinds.deployment, namespace, "web", available(0))


async def make_service(api: Api, namespace: str, *, image: str = "triton:1") -> None:
    """A ServingRuntime ``rt`` and an InferenceService ``m`` with a container in front of it."""
    ports = [{"name": "http", "containerPort": 8080}, {"name": "grpc", "containerPort": 9000}]
    runtime = {
        "metadata": {"name": "rt"},
        "spec": {
            "supportedModelFormats": [{"name": "triton", "version": "2"}],
            "containers": [{"name": "kserve-container", "image": image, "args": ["--base"]}],
        },
    }
    model = {"modelFormat": {"name": "triton"}, "runtime": "rt", "args": ["--own"], "storageUri": "s3://models/m"}
    front = {"name": "transformer-container", "image": "tap:1", "ports": ports}
    service = {
        "metadata": {"name": "m", "labels": {"networking.kserve.io/visibility": "cluster-local"}},
        "spec": {"predictor": {"minReplicas": 1, "model": model, "containers": [front]}},
    }
    await api.apply(kinds.serving_runtime, namespace, runtime, manager="test")
    await api.apply(kinds.inference_service, namespace, service, manager="test")


def is_ready(found: Obj | None) -> bool:
    return condition(found, "Ready")[0] == "True"


async def test_an_inference_service_gets_its_children_and_is_ready(api: Api, namespace: str) -> None:
    await make_service(api, namespace)
    service = await api.until(kinds.inference_service, namespace, "m", is_ready)
    assert service is not None
    assert service["status"]["modelStatus"]["states"] == {"activeModelState": "Loaded", "targetModelState": "Loaded"}
    assert service["status"]["address"]["url"] == f"http://m-predictor.{namespace}.svc.cluster.local"
    assert service["metadata"]["annotations"] == {"serving.kserve.io/deploymentMode": "Standard"}
    assert service["spec"]["predictor"]["automountServiceAccountToken"] is False

    child = await api.get(kinds.deployment, namespace, "m-predictor")
    assert (service["status"]["observedGeneration"], child["metadata"]["generation"]) == (1, 1)
    assert service["metadata"]["generation"] == 2  # observedGeneration is the Deployment's
    assert child["metadata"]["ownerReferences"][0]["uid"] == service["metadata"]["uid"]
    main, front = child["spec"]["template"]["spec"]["containers"]
    assert (main["image"], main["args"], front["image"]) == ("triton:1", ["--base", "--own"], "tap:1")
    ports = (await api.get(kinds.service, namespace, "m-predictor"))["spec"]["ports"]
    assert [(port["name"], port["port"], port["targetPort"]) for port in ports] == [
        ("http", 80, 8080),
        ("grpc", 9000, 9000),
    ]


async def test_ready_stays_true_in_the_middle_of_a_failing_rollout(api: Api, namespace: str, stand_in: StandIn) -> None:
    await make_service(api, namespace)
    await api.until(kinds.inference_service, namespace, "m", is_ready)
    stand_in.script(namespace, "m-predictor", CRASH, when=lambda pod: "triton:2" in str(pod["spec"]))

    await make_service(api, namespace, image="triton:2")

    blocked = await api.until(
        kinds.inference_service,
        namespace,
        "m",
        lambda found: bool(found and found["status"]["modelStatus"]["transitionStatus"] == "BlockedByFailedLoad"),
    )
    assert is_ready(blocked)
    child = await api.get(kinds.deployment, namespace, "m-predictor")
    assert (child["status"]["updatedReplicas"], child["status"]["unavailableReplicas"]) == (1, 1)


async def test_an_inference_service_without_its_runtime_says_so_until_it_comes(api: Api, namespace: str) -> None:
    model = {"modelFormat": {"name": "triton"}, "runtime": "rt"}
    service = {"metadata": {"name": "m"}, "spec": {"predictor": {"model": model}}}
    await api.apply(kinds.inference_service, namespace, service, manager="test")
    missing = ("False", "RuntimeNotRecognized")
    await api.until(kinds.inference_service, namespace, "m", lambda found: condition(found, "Ready") == missing)
    await make_service(api, namespace)
    await api.until(kinds.inference_service, namespace, "m", is_ready)


async def test_deleting_an_inference_service_leaves_nothing(api: Api, namespace: str) -> None:
    await make_service(api, namespace)
    await api.until(kinds.inference_service, namespace, "m", is_ready)
    await api.delete(kinds.inference_service, namespace, "m")
    for kind, name in (
        (kinds.inference_service, "m"),
        (kinds.deployment, "m-predictor"),
        (kinds.service, "m-predictor"),
    ):
        await api.until(kind, namespace, name, lambda found: found is None)


async def test_a_deployment_that_looks_like_a_predictor_is_removed_as_kserve_does(api: Api, namespace: str) -> None:
    await make_service(api, namespace)
    await api.until(kinds.inference_service, namespace, "m", is_ready)
    body = deployment("stray")
    body["metadata"]["labels"] = {"serving.kserve.io/inferenceservice": "m", "component": "predictor"}
    await api.create(kinds.deployment, namespace, body)
    await api.until(kinds.deployment, namespace, "stray", lambda found: found is None)


async def test_it_goes_on_after_the_api_server_was_killed(
    control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    control_plane.restart_api_server()
    await make_service(api, namespace)
    await api.until(kinds.inference_service, namespace, "m", is_ready, seconds=60)


async def test_as_a_process_it_obeys_annotations_and_says_why_it_ends(
    control_plane: ControlPlane, api: Api, tmp_path: Path
) -> None:
    name = "stand-in-process"
    await api.create(kinds.namespace, None, {"metadata": {"name": name}})
    await api.until(kinds.service_account, name, "default", lambda found: found is not None)
    annotated = deployment("web", replicas=1, annotations={ANNOTATION: "crash"})
    await api.create(kinds.deployment, name, annotated)
    said = tmp_path / "stderr"
    with said.open("wb") as log, subprocess.Popen(_command(control_plane.kubeconfig), env=ENVIRON, stderr=log) as one:
        try:
            reason = ("False", "ProgressDeadlineExceeded")
            await api.until(kinds.deployment, name, "web", lambda found: condition(found, "Progressing") == reason)
            await until_a_pod_says("CrashLoopBackOff", api, name)
        finally:
            one.terminate()
    assert one.returncode == 0
    assert said.read_text().endswith("stand-in: stopped by SIGTERM\n")
    await api.delete(kinds.namespace, None, name)
    await api.until(kinds.namespace, None, name, lambda found: found is None, seconds=60)


def test_as_a_process_it_says_what_killed_it(tmp_path: Path) -> None:
    for arguments, code, words in (
        (_command(tmp_path / "none"), 1, "stand-in: died:\nTraceback"),
        (_command(), 2, "usage: python -m kube KUBECONFIG"),
        ([sys.executable, "-m", "kube.stand_in", "x"], 1, "run: python -m kube KUBECONFIG"),
    ):
        done = subprocess.run(arguments, env=ENVIRON, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr


def _command(*arguments: Path) -> list[str | Path]:
    return [sys.executable, "-m", "kube", *arguments]


async def test_its_death_is_told_at_once_and_fails_the_test(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with control_plane.api() as client:
        with pytest.raises(ExceptionGroup) as died:
            async with StandIn(client) as dying:
                dying.script(namespace, "*", READY, when=lambda pod: bool(pod["no such field"]))
                await client.create(kinds.deployment, namespace, deployment("web", replicas=1))
                async with asyncio.timeout(60):
                    while "the stand-in died" not in caplog.text:
                        await asyncio.sleep(0.05)
    assert died.group_contains(KeyError)
