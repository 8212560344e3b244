"""``latentry rollout`` as somebody on call runs it: the console command, a real API server, the operator acting.

Covered: each command's effect on routes, Service, conditions and events, and what it prints; each where there is
nothing to act on; what kubectl shows in the middle; where credentials and the namespace come from; no such model, no
CRD, no rights, no server, an unknown user, no credentials; no operator; a spec that is not accepted.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kube import Assets, ControlPlane, Obj, kinds
from kube.assets import REPOSITORY
from routed_rollouts import GATEWAY, GRPC_ROUTE, HTTP_ROUTE, UNWATCHED, Judge, route_weights

from latentry_operator.kube import rollout_command
from latentry_operator.kube.rollout_command import ClusterTarget
from latentry_operator.plan.rollout.facts import ProbeResult, Verb
from latentry_operator.runtime.operator import Operator
from latentry_operator.runtime.rollout_evidence import EvidenceReader
from latentry_operator.settings import load_settings
from latentry_serving.contract.errors import OperationFailed

Make = Callable[..., Obj]
REVISION = "latentry.dev/revision"
CANARY = {
    "strategy": "Canary",
    "steps": [{"weight": 10, "for": "10m"}, {"weight": 50, "for": "10m"}],
    "watchFor": "0s",
    "keepFor": "1h",
    "gates": UNWATCHED,
}
SLO = {"availability": 99.9}


@pytest.fixture(autouse=True)
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    made = Judge()
    monkeypatch.setattr(EvidenceReader, "read", lambda *given: made.read(*given))
    return made


def canary(make_model: Make, instances: int = 1, **more: Any) -> Obj:
    base = {"workload": "Deployment", "gateway": GATEWAY, "rollout": CANARY, "slo": SLO}
    scaling = {"metric": "None", "minReplicas": 4}
    return make_model("tiny", **(base | {"scaling": scaling, "runtime": {"instances": instances}} | more))


class Shell:
    """Somebody's terminal: an empty home, KUBECONFIG set or not."""

    def __init__(self, home: Path, kubeconfig: Path | None) -> None:
        self.home = home
        self.kubeconfig = kubeconfig

    async def rollout(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Exit code, standard output, standard error of ``latentry rollout``."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
        environ["HOME"] = str(self.home)
        if self.kubeconfig is not None:
            environ["KUBECONFIG"] = str(self.kubeconfig)
        command = [sys.executable, "-m", "latentry_operator", "rollout", *map(str, arguments)]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=60, env=environ, cwd=self.home
        )
        print("$ latentry rollout", *arguments, f"-> {done.returncode}\n{done.stdout}{done.stderr}")
        return done.returncode, done.stdout, done.stderr

    async def refused(self, *arguments: str | Path, code: int = 1) -> str:
        """What a command says that fails; a sentence, never a traceback."""
        status, out, err = await self.rollout(*arguments)
        assert (status, out) == (code, "")
        assert err.startswith("error: ")
        assert "Traceback" not in err
        return err

    async def done(self, *arguments: str | Path) -> str:
        """What a command prints that succeeds."""
        status, out, err = await self.rollout(*arguments)
        assert (status, err) == (0, "")
        return out


@pytest.fixture
def shell(permitted: ControlPlane, tmp_path: Path) -> Shell:
    return Shell(tmp_path, permitted.kubeconfig)


def kubeconfig(control_plane: ControlPlane, file: Path, **changes: Obj) -> Path:
    """The administrator's kubeconfig with fields of its ``cluster``, ``user`` or ``context`` changed."""
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    for part, fields in changes.items():
        (entry,) = config[f"{part}s"]
        entry[part] |= fields
    file.write_text(yaml.safe_dump(config))
    return file


async def shares(world: Any) -> tuple[dict[str, int], dict[str, int], str]:
    """By HTTPRoute and by GRPCRoute; and the revision that the model's Service selects."""
    routes = [await world.api.get(kind, world.namespace, "tiny") for kind in (HTTP_ROUTE, GRPC_ROUTE)]
    service = await world.api.get(kinds.service, world.namespace, "tiny")
    return route_weights(routes[0]), route_weights(routes[1]), service["spec"]["selector"][REVISION]


async def until_shares(world: Any, selected: str, **weights: int) -> None:
    """Wait for shares by revision (``_`` for ``-``), the same on both routes."""
    wanted = {name.replace("_", "-"): weight for name, weight in weights.items()}

    async def there() -> bool:
        return await shares(world) == (wanted, wanted, selected)

    await world.eventually(there)


async def started(world: Any, make_model: Make) -> tuple[str, str]:
    """A model whose candidate has 10 % of the traffic: names of the stable revision and the candidate."""
    await world.apply(canary(make_model))
    old = (await world.complete("tiny"))["status"]["stable"]["revision"]
    await world.apply(canary(make_model, 2))
    found = await world.until("tiny", "Progressing", "True", "Stepping")
    new = found["status"]["candidate"]["revision"]
    await until_shares(world, old, **{old: 90, new: 10})
    return old, new


async def test_each_command_has_its_effect(operator: Operator, world: Any, make_model: Make, shell: Shell) -> None:
    where = ("tiny", "-n", world.namespace)
    old, new = await started(world, make_model)

    assert "paused at 10 %; failing gates still roll back" in await shell.done("pause", *where)
    await world.until("tiny", "Progressing", "False", "Paused")
    assert "Paused: " in await shell.done("status", *where)
    assert "the rollout goes on" in await shell.done("resume", *where)
    await world.until("tiny", "Progressing", "True", "Stepping")
    assert (await shares(world))[0] == {old: 90, new: 10}

    assert f"revision {new} is promoted past its remaining gates" in await shell.done("promote", *where)
    await until_shares(world, new, **{new: 100})
    await world.complete("tiny")
    out = await shell.done("status", *where)
    assert f"stable     {new}, version not told yet, 100 % of the traffic, 4 replicas ready" in out
    assert f"previous   {old}, kept for an undo" in out

    assert f"revision {old}, which was kept, takes over from {new} again" in await shell.done("undo", *where)
    await until_shares(world, old, **{old: 100})
    await world.until("tiny", "Progressing", "False", "Rejected")
    assert "Rejected: " in await shell.done("status", *where)

    assert f"revision {new} may be tried again" in await shell.done("retry", *where)
    await until_shares(world, old, **{old: 90, new: 10})
    assert f"revision {new} is given up (RolloutAborted)" in await shell.done("abort", *where)
    await until_shares(world, old, **{old: 100})
    happened = await world.told(
        "RolloutPaused",
        "RolloutResumed",
        "PromotionForced",
        "Promoted",
        "RolloutUndone",
        "RolloutRetried",
        "CandidateRejected",
        "RolledBack",
    )
    assert "CommandIgnored" not in happened


async def test_commands_with_nothing_to_act_on_fail_and_change_nothing(
    operator: Operator, world: Any, make_model: Make, shell: Shell
) -> None:
    await world.apply(canary(make_model))
    only = (await world.complete("tiny"))["status"]["stable"]["revision"]
    await until_shares(world, only, **{only: 100})
    for verb, why in {
        "resume": "resume: the rollout is neither paused nor held",
        "promote": "promote: there is no candidate",
        "abort": "abort: there is no candidate",
        "undo": "undo: no replaced revision is kept; write the old spec",
        "retry": "retry: no revision is rejected",
    }.items():
        err = await shell.refused(verb, "tiny", "-n", world.namespace)
        assert why in err
        assert "nothing was changed" in err
        await world.told("CommandIgnored")
    assert await shares(world) == ({only: 100}, {only: 100}, only)
    assert "Complete: " in await shell.done("status", "tiny", "-n", world.namespace)


async def test_status_and_kubectl_tell_gate_number_threshold_and_what_is_next(
    operator: Operator,
    world: Any,
    make_model: Make,
    shell: Shell,
    judge: Judge,
    control_plane: ControlPlane,
    condition_of: Any,
) -> None:
    async def kubectl(*arguments: str) -> str:
        done = await asyncio.to_thread(control_plane.kubectl, "-n", world.namespace, *arguments)
        print("$ kubectl", *arguments, f"\n{done.stdout}")
        return done.stdout

    old, new = await started(world, make_model)
    waits = "gate slo: 0 of at least 100 requests at this step"

    def judged(found: Obj | None) -> bool:
        return waits in condition_of(found, "Progressing").get("message", "")

    await world.api.until(kinds.latent_model, world.namespace, "tiny", judged)
    out = await shell.done("status", "tiny", "-n", world.namespace)
    assert f"stable     {old}, version not told yet, 90 % of the traffic, 4 replicas ready" in out
    assert f"candidate  {new}, version not told yet, 10 % of the traffic, 1 replica ready" in out
    for part in (f"state      Stepping: revision {new} at 10 %, step 1 of 3: watched for ", " of 600 s; ", waits):
        assert part in out
    assert "; then 50 % of the traffic" in out
    assert "gate       golden Pass (GoldenReproduced): 1 operation gave the recorded outputs" in out
    assert "gate       stability Pass (Steady): 0 restarts of its containers, 2 are allowed" in out
    assert "gate       slo Wait (TooLittleTraffic): 0 of at least 100" in out

    head, row = (line.split() for line in (await kubectl("get", "lm")).splitlines())
    assert dict(zip(head[2:], row[1:], strict=False))["ROLLOUT"] == "Stepping"
    assert row[row.index("Stepping") + 1] == "10"
    wide = await kubectl("get", "lm", "-o", "wide")
    assert new in wide
    assert waits in wide
    described = await kubectl("describe", "lm", "tiny")
    for part in (waits, "; then 50 % of the traffic", "TooLittleTraffic", f"the share of {new} is 10 %"):
        assert part in described

    judge.golden = ProbeResult.FAILED
    await world.until("tiny", "Progressing", "False", "Rejected")
    out = await shell.done("status", "tiny", "-n", world.namespace)
    assert f"{new} is given up (GateFailed): gate golden (GoldenMissed): 1 of 1 operation missed" in out
    assert "encode: 3 of 8 values are off by up to 0.4" in out
    assert "latentry rollout retry" in out
    await kubectl("describe", "lm", "tiny")


async def test_credentials_and_namespace_come_as_for_kubectl(
    operator: Operator, world: Any, make_model: Make, shell: Shell, permitted: ControlPlane, tmp_path: Path
) -> None:
    await world.apply(canary(make_model))
    await world.complete("tiny")
    here = kubeconfig(permitted, tmp_path / "here", context={"namespace": world.namespace})
    shell.kubeconfig = here
    assert "Complete: " in await shell.done("status", "tiny")
    shell.kubeconfig = None
    assert "Complete: " in await shell.done("status", "tiny", "--kubeconfig", here)
    (tmp_path / ".kube").mkdir()
    here.rename(tmp_path / ".kube" / "config")
    assert "Complete: " in await shell.done("status", "tiny", "--context", "test")
    err = await shell.refused("status", "tiny", "--context", "elsewhere", code=2)
    assert "Expected object with name elsewhere" in err


async def test_what_is_missing_is_named_with_the_remedy(
    world: Any, shell: Shell, permitted: ControlPlane, tmp_path: Path
) -> None:
    where = ("tiny", "-n", world.namespace)
    for verb in ("status", "promote"):
        err = await shell.refused(verb, *where)
        assert f"there is no LatentModel tiny in namespace {world.namespace}; `kubectl get latentmodels -A`" in err
    shell.kubeconfig = kubeconfig(permitted, tmp_path / "nobody", cluster={"server": "https://127.0.0.1:1"})
    err = await shell.refused("status", *where)
    assert "the API server https://127.0.0.1:1 does not answer: " in err
    assert "--context" in err
    shell.kubeconfig = kubeconfig(permitted, tmp_path / "stranger", user={"token": "expired"})
    assert "does not accept the kubeconfig's credentials: 401 Unauthorized" in await shell.refused("status", *where)
    shell.kubeconfig = None
    err = await shell.refused("status", "tiny")
    assert "no `latentry up` serves from .latentry/run/tiny, and no cluster can be asked" in err
    assert f"{tmp_path}/.kube/config: there is no such file" in err
    err = await shell.refused("status", *where, "--kubeconfig", tmp_path / "none", code=2)
    assert f"{tmp_path}/none: there is no such file" in err


async def test_who_may_only_look_is_told_which_role_it_takes(
    operator: Operator, world: Any, make_model: Make, shell: Shell, permitted: ControlPlane, tmp_path: Path
) -> None:
    await world.apply(canary(make_model))
    await world.complete("tiny")
    api, namespace = world.api, world.namespace
    where = ("tiny", "-n", namespace)
    view = next(
        role
        for role in yaml.safe_load_all((REPOSITORY / "manifests" / "operator" / "user-roles.yaml").read_text())
        if role["metadata"]["name"] == "latentry-view"
    )
    await api.create(kinds.service_account, namespace, {"metadata": {"name": "onlooker"}})
    path = kinds.service_account.path(namespace, "onlooker")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    made = await api.request("POST", f"{path}/token", request, headers={"Content-Type": "application/json"})
    shell.kubeconfig = kubeconfig(permitted, tmp_path / "onlooker", user={"token": made["status"]["token"]})
    err = await shell.refused("status", *where)
    assert "403 Forbidden" in err
    assert "cannot get resource" in err
    assert f"latentry-view in namespace {namespace}" in err

    role = {"metadata": {"name": "view"}, "rules": view["rules"]}
    await api.create(kinds.role, namespace, role)
    subject = {"kind": "ServiceAccount", "name": "onlooker", "namespace": namespace}
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "view"}
    await api.create(
        kinds.role_binding, namespace, {"metadata": {"name": "view"}, "subjects": [subject], "roleRef": ref}
    )

    async def may_look() -> bool:
        return (await shell.rollout("status", *where))[0] == 0

    await world.eventually(may_look)
    err = await shell.refused("pause", *where)
    assert "cannot patch resource" in err
    assert "latentry-edit" in err


def test_without_the_crd_that_is_said(kube_assets: Assets, tmp_path: Path) -> None:
    with ControlPlane(kube_assets) as bare:
        shell = Shell(tmp_path, bare.kubeconfig)
        for verb in ("status", "undo"):
            err = asyncio.run(shell.refused(verb, "tiny"))
            assert "this cluster does not know LatentModels; choose another one with --context" in err


async def test_a_command_that_nobody_takes_up_says_so_and_is_carried_out_later(
    permitted: ControlPlane,
    run_operator_on: Callable[..., Any],
    world: Any,
    make_model: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with run_operator_on(permitted):
        await started(world, make_model)
    monkeypatch.setattr(rollout_command, "PATIENCE_SECONDS", 1.0)
    target = ClusterTarget("tiny", world.namespace, load_settings(kubeconfig=permitted.kubeconfig))
    with pytest.raises(OperationFailed, match=r"the operator has not looked at pause within 1 s; see that it runs"):
        await asyncio.to_thread(target.command, Verb.PAUSE)
    async with run_operator_on(permitted):
        await world.until("tiny", "Progressing", "False", "Paused")


async def test_a_spec_that_is_not_accepted_keeps_commands_waiting(
    operator: Operator, world: Any, make_model: Make, shell: Shell
) -> None:
    where = ("tiny", "-n", world.namespace)
    await started(world, make_model)
    await world.apply(canary(make_model, 2, placement={"gpuPool": "nowhere"}))
    await world.until("tiny", "Accepted", "False", "GPUPoolNotFound")
    err = await shell.refused("promote", *where)
    assert "promote waits, as the spec is not accepted: placement.gpuPool: there is no GPUPool nowhere" in err
    assert "note       Accepted is False (GPUPoolNotFound): " in await shell.done("status", *where)
    await world.apply(canary(make_model, 2))
    found = await world.complete("tiny")
    assert found["status"]["rollout"]["commandReason"] == "PromotionForced"
