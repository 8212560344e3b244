"""Fixtures over one control plane per test session; a conftest imports them together with the hooks below.

Where there is no control plane the tests that ask for it are skipped, and the terminal summary says so in a line of its
own.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from kube.api import Api, kinds
from kube.assets import Assets, NoControlPlane, find_assets
from kube.control_plane import ControlPlane
from kube.crds import our_crds, upstream_crds
from kube.stand_in import StandIn

FIXTURE = "control_plane"
_ASSETS = pytest.StashKey[Assets | NoControlPlane]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Find or build the programs before any test's clock runs, with the build's progress on the terminal."""
    asked = any(FIXTURE in getattr(item, "fixturenames", ()) for item in session.items)
    if not asked or session.config.option.collectonly or _ASSETS in session.config.stash:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    found: Assets | NoControlPlane
    with capture.global_and_fixture_disabled():
        try:
            found = find_assets()
        except NoControlPlane as problem:
            found = problem
    session.config.stash[_ASSETS] = found


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """The loud line, after everything else."""
    yield
    found = terminalreporter.config.stash.get(_ASSETS, None)
    if isinstance(found, NoControlPlane):
        terminalreporter.write_sep("!", "KUBERNETES TESTS SKIPPED: no control plane", red=True, bold=True)
        terminalreporter.write_line(str(found), red=True)


@pytest.fixture(scope="session")
def kube_assets(pytestconfig: pytest.Config) -> Assets:
    """The control plane's programs; skips where there are none."""
    found = pytestconfig.stash[_ASSETS]
    if isinstance(found, NoControlPlane):
        pytest.skip("no control plane, see the end of this summary")
    return found


@pytest.fixture(scope="session")
def control_plane(kube_assets: Assets) -> Iterator[ControlPlane]:
    """One Kubernetes for the session, with every CRD of tests/data/crds and our own."""
    with ControlPlane(kube_assets, crds=[*upstream_crds(), *our_crds()]) as running:
        yield running


@pytest.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[Api]:
    """The API as cluster administrator."""
    async with control_plane.api() as client:
        yield client


@pytest.fixture
async def stand_in(control_plane: ControlPlane) -> AsyncIterator[StandIn]:
    """KServe's controller and the kubelet, for the time of a test."""
    async with control_plane.api() as client, StandIn(client) as acting:
        yield acting


@pytest.fixture
async def namespace(api: Api, stand_in: StandIn) -> AsyncIterator[str]:
    """A namespace of the test's own. It goes in the background, once nothing in it waits for the stand-in any more."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    await api.create(kinds.namespace, None, {"metadata": {"name": name}})
    await api.until(kinds.service_account, name, "default", lambda found: found is not None)
    yield name
    await api.request("DELETE", kinds.inference_service.path(name))
    async with asyncio.timeout(60):
        while (await api.list(kinds.inference_service, name))["items"]:
            await asyncio.sleep(0.05)
    await api.delete(kinds.namespace, None, name)
