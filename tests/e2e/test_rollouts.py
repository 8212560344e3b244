"""New versions of a model on one machine: `latentry up` follows its file, on the real Triton, while users send digits.

Covers: a good version (float16) gets all the traffic and no request fails; a version that renames an output never
answers a user; nor does a collapsed one in a new embedding space, where a good one in a new space takes over; a version
that dies under load gives the users back. Every other kind of bad version: bench/rollouts.py.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from bench import rollouts_bundles as bundles
from bench import rollouts_graphs as graphs
from bench.rollouts_run import Outcome, Rollouts, Up, kill_under_load
from bench.rollouts_traffic import CLIENTS, Traffic

pytestmark = [pytest.mark.triton, pytest.mark.timeout(600)]

SPEC: Mapping[str, Any] = {
    "family": "VAE",
    "monitoring": {"sampling": {"maxPerSecond": 200}, "drift": {"window": 100}, "golden": {"every": "1s"}},
    "rollout": {
        "deadline": "90s",
        # Latency is no matter of these tests: other work shares the machine.
        "analysis": {"tolerance": 10, "maxLatencyRatio": 1000},
    },
}
VERDICT_SECONDS = 240


@dataclass
class Shop:
    """Digits, and a stable version of a VAE for them."""

    folder: Path
    reference: graphs.Images
    live: graphs.Images
    networks: graphs.Networks
    stable: Path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("rollouts")
    reference, live = bundles.digits(2, seed=1), bundles.digits(4, seed=2)
    networks = graphs.linear_networks(reference)
    return Shop(folder, reference, live, networks, bundles.build(networks, reference, folder / "1", "1"))


class Users(Traffic):
    """Counted, so that a test waits for requests and not for time."""

    def wait(self, more: int) -> None:
        """Until so many more answers or failures came."""
        wanted, deadline = len(self.calls) + more, time.monotonic() + 120
        while len(self.calls) < wanted:
            assert time.monotonic() < deadline, f"{len(self.calls)} of {wanted} calls"
            time.sleep(0.05)

    def wait_for_each(self) -> None:
        """Until every client had one more answer or failure."""
        known, deadline = len(self.calls), time.monotonic() + 120
        while silent := set(CLIENTS) - {call.client for call in self.calls[known:]}:
            assert time.monotonic() < deadline, f"nothing more of {silent}"
            time.sleep(0.05)


@contextmanager
def served(
    shop: Shop, folder: Path, *, watch_for: str = "3s", **expected: Path
) -> Iterator[tuple[Rollouts, Up, Users]]:
    """The stable version with users, who take the answers of the expected versions for right."""
    right = {name: bundles.expected(bundle, shop.live) for name, bundle in (("1", shop.stable), *expected.items())}
    spec = {**SPEC, "rollout": {**SPEC["rollout"], "watchFor": watch_for}}
    rollouts = Rollouts(folder, "digits", spec, slow_seconds=60)
    with rollouts.serving(shop.stable) as up:
        addresses = up.latest["addresses"]
        users = Users(addresses["http"], addresses["grpc"], bundles.NAME, shop.live, right)
        with users.running():
            users.wait(200)
            yield rollouts, up, users


def roll(rollouts: Rollouts, up: Up, users: Users, bundle: Path, **more: Any) -> Outcome:
    return rollouts.roll(up, users, bundle, patience_seconds=VERDICT_SECONDS, **more)


def test_a_good_version_takes_over_and_no_request_fails(shop: Shop, tmp_path: Path) -> None:
    halved = bundles.build(graphs.half_precision(shop.networks), shop.reference, shop.folder / "2", "2")
    with served(shop, tmp_path, **{"2": halved}) as (rollouts, up, users):
        before = up.latest["addresses"]
        outcome = roll(rollouts, up, users, halved)
        users.wait_for_each()
        version, after = up.latest["version"], up.latest["addresses"]
        slis = httpx.get(f"http://{after['admin']}/slis").json()
    assert (outcome.verdict, outcome.switched) == ("promoted", True), outcome
    assert (outcome.during.failed, outcome.during.wrong) == (0, 0), outcome.during
    assert version == slis["version"] == "2"
    assert {key: before[key] for key in ("http", "grpc", "page")} == {
        key: after[key] for key in ("http", "grpc", "page")
    }
    assert not [call for call in users.calls if call.problem]


def test_a_renamed_output_never_reaches_a_user(shop: Shop, tmp_path: Path) -> None:
    renamed = bundles.sealed_again(shop.stable, shop.folder / "renamed", bundles.rename_output)
    with served(shop, tmp_path) as (rollouts, up, users):
        outcome = roll(rollouts, up, users, renamed)
        users.wait(50)
        rollout, version = up.latest["rollout"], up.latest["version"]
    assert (outcome.verdict, outcome.switched) == ("rolled back", False), outcome
    assert "gate contract (ContractBroken)" in outcome.why
    assert "posterior_mean" in outcome.why
    assert outcome.during.harmed == 0, outcome.during
    assert (version, rollout["weight"], rollout["candidate"]) == ("1", 0, None)


def test_in_a_new_space_a_collapsed_version_never_reaches_a_user_and_a_good_one_does(
    shop: Shop, tmp_path: Path
) -> None:
    made = {
        name: bundles.build(networks, shop.reference, shop.folder / name, name, space=f"space-{name}")
        for name, networks in (("4", graphs.collapsed(shop.networks)), ("5", graphs.rotated(shop.networks)))
    }
    with served(shop, tmp_path, **{"5": made["5"]}) as (rollouts, up, users):
        collapsed = roll(rollouts, up, users, made["4"])
        good = roll(rollouts, up, users, made["5"])
        version = up.latest["version"]
    assert (collapsed.verdict, collapsed.switched) == ("rolled back", False), collapsed
    assert "gate health (Collapsed): 0 of 8 active units" in collapsed.why
    assert (collapsed.during.failed, collapsed.during.wrong) == (0, 0), collapsed.during
    assert (good.verdict, version) == ("promoted", "5"), good
    assert (good.during.failed, good.during.wrong) == (0, 0), good.during


def test_a_version_that_dies_under_load_gives_the_users_back(shop: Shop, tmp_path: Path) -> None:
    again = bundles.build(shop.networks, shop.reference, shop.folder / "3", "3")
    with served(shop, tmp_path, watch_for="1h") as (rollouts, up, users):  # however late it is killed, it is on trial
        outcome = roll(rollouts, up, users, again, fault=kill_under_load(30))
        users.wait(100)
        version, last = up.latest["version"], users.calls[-100:]
    assert (outcome.verdict, outcome.switched) == ("rolled back", True), outcome
    assert version == "1"
    assert not [call for call in last if call.problem], "stable answers again"
    assert outcome.during.wrong == 0, outcome.during
    assert outcome.during.failed < 200, outcome.during
