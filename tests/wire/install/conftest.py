"""A cluster of its own for the chart, empty but for PodMonitors: the shared one has our CRDs already."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from cached_tools import ROOT, program
from kube import Api, Assets, ControlPlane, Kind, Obj, kinds, upstream_crds

CHART = ROOT / "charts" / "latentry"
SYSTEM = "latentry-system"
OUR_CRDS = ("gpupools.latentry.dev", "latentmodels.latentry.dev")
Helm = Callable[..., str]


@pytest.fixture(scope="module")
def control_plane(kube_assets: Assets) -> Iterator[ControlPlane]:
    monitors = [one for one in upstream_crds("prometheus-operator") if one["spec"]["names"]["kind"] == "PodMonitor"]
    with ControlPlane(kube_assets, crds=monitors) as running:
        yield running


@pytest.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[Api]:
    """The API as cluster administrator; afterwards nothing of ours is left."""
    async with control_plane.api() as client:
        yield client
        for name in OUR_CRDS:
            await client.delete(kinds.crd, None, name)
        for name in OUR_CRDS:
            await client.until(kinds.crd, None, name, lambda found: found is None)


@pytest.fixture
def helm(control_plane: ControlPlane, api: Api, tmp_path: Path) -> Iterator[Helm]:
    """``helm("install", "--set", "replicas=2")`` on the release ``latentry``; ``chart`` is another than ours,
    ``fails`` expects a refusal and gives its words. The release is uninstalled afterwards."""
    run = program("helm", {"HOME": str(tmp_path), "KUBECONFIG": str(control_plane.kubeconfig)})

    def act(verb: str, *arguments: str, chart: Path = CHART, fails: bool = False) -> str:
        charts = [] if verb == "uninstall" else [chart]
        more = ["--create-namespace"] if verb == "install" else []
        done = run(verb, "latentry", *charts, "--namespace", SYSTEM, *more, *arguments)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    yield act
    run("uninstall", "latentry", "--namespace", SYSTEM, "--ignore-not-found")


@pytest.fixture
def until_served(api: Api) -> Callable[..., object]:
    """Waits until the API server serves a kind."""

    def established(found: Obj | None) -> bool:
        conditions = (found or {}).get("status", {}).get("conditions") or []
        return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)

    async def wait(kind: Kind) -> None:
        group = kind.api_version.partition("/")[0]
        await api.until(kinds.crd, None, f"{kind.plural}.{group}", established)

    return wait
