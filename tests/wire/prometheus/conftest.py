"""One stack for the module that hurts models: see tests/support/observed. Where Prometheus or Alertmanager are missing
these tests are skipped, and the terminal summary says so in a line of its own."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from observed import Stack

FIXTURE = "observed"
PROGRAMS = ("prometheus", "prometheus-alertmanager")
_MISSING = pytest.StashKey[list[str]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Look for the programs once."""
    asked = any(FIXTURE in getattr(item, "fixturenames", ()) for item in session.items)
    session.config.stash[_MISSING] = [name for name in PROGRAMS if shutil.which(name) is None] if asked else []


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """The loud line, after everything else."""
    yield
    if missing := terminalreporter.config.stash.get(_MISSING, []):
        terminalreporter.write_sep("!", "OBSERVABILITY TESTS SKIPPED", red=True, bold=True)
        terminalreporter.write_line(f"missing: {', '.join(missing)}; scripts/test-programs installs them", red=True)


@pytest.fixture(scope="module")
def observed(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Stack"]:
    """Everything runs, nothing is hurt yet. A minute of rules and routes is two seconds."""
    if missing := pytestconfig.stash[_MISSING]:
        pytest.skip(f"no {', '.join(missing)}, see the end of this summary")
    from observability import Pace
    from observed import Stack
    from observed.elsewhere import EXPOSITION

    with Stack(tmp_path_factory.mktemp("observed"), Pace(30), elsewhere=EXPOSITION) as stack:
        yield stack
