"""The client against a server that misbehaves: overload, failures, nonsense; events and the Lease on top of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from latentry_operator.kube.client import Client, RateLimit, backoff
from latentry_operator.kube.errors import Conflict, Gone, KubeError, Unreachable
from latentry_operator.kube.events import EventRecorder, Happening
from latentry_operator.kube.kinds import CONFIG_MAP, LATENT_MODEL
from latentry_operator.kube.lease import Election, LeaseSettings
from latentry_operator.kube.records import Stored

KEY = ("ns", "x")


async def test_overload_and_failures_are_tried_again(script: Any, client: Client) -> None:
    script.then(429, {"reason": "TooManyRequests"}, **{"Retry-After": "0"}).then(503).then(200, {"kind": "ConfigMap"})
    assert await client.get(CONFIG_MAP, KEY) == {"kind": "ConfigMap"}
    assert script.calls == [("get", "ConfigMap", code) for code in ("429", "503", "200")]
    assert script.requests[0].headers["Authorization"] == "Bearer secret"


async def test_a_lost_connection_is_tried_again(script: Any, client: Client) -> None:
    script.then_hang_up().then(200, {"kind": "ConfigMap"})
    assert await client.get(CONFIG_MAP, KEY) is not None


async def test_it_gives_up_with_the_servers_words(script: Any, client: Client) -> None:
    script.then(500, {"reason": "InternalError", "message": "etcd is full"})
    with pytest.raises(KubeError, match="500 InternalError: etcd is full"):
        await client.get(CONFIG_MAP, KEY)
    assert len(script.requests) == 3


async def test_a_refusal_is_not_tried_again(script: Any, client: Client) -> None:
    script.then(403, {"reason": "Forbidden", "message": "no"})
    with pytest.raises(KubeError, match="403 Forbidden: no") as caught:
        await client.get(CONFIG_MAP, KEY)
    assert not caught.value.transient
    assert len(script.requests) == 1


async def test_refused_credentials_are_read_again_once(script: Any, client: Client) -> None:
    script.then(401).then(200, {"kind": "ConfigMap"})
    assert await client.get(CONFIG_MAP, KEY) is not None


async def test_what_a_proxy_says_is_reported(script: Any, client: Client) -> None:
    script.then(400, "<html>bad gateway</html>")
    with pytest.raises(KubeError, match="bad gateway"):
        await client.get(CONFIG_MAP, KEY)


async def test_an_answer_that_is_no_json_counts_as_none(script: Any, client: Client) -> None:
    script.then(200, "<html>login</html>")
    with pytest.raises(Unreachable, match="no JSON"):
        await client.get(CONFIG_MAP, KEY)


async def test_fields_in_conflict_are_named(script: Any, client: Client) -> None:
    cause = {"reason": "FieldManagerConflict", "field": ".spec.a", "message": 'conflict with "team"'}
    script.then(409, {"reason": "Conflict", "message": "Apply failed", "details": {"causes": [cause]}})
    with pytest.raises(Conflict) as caught:
        await client.apply(CONFIG_MAP, {"metadata": {"namespace": "ns", "name": "x"}}, force=False)
    assert caught.value.field_conflicts == ('.spec.a (conflict with "team")',)


async def test_deleting_what_is_gone_or_made_anew_is_no_error(script: Any, client: Client) -> None:
    script.then(404).then(409)
    await client.delete(CONFIG_MAP, KEY, "uid")
    await client.delete(CONFIG_MAP, KEY, "uid")
    assert len(script.requests) == 2


async def lines_of(client: Client) -> list[bytes]:
    watch = client.watch(CONFIG_MAP, None, "", "7", seconds=60, silence=60)
    return [line async for line in watch]


async def test_watch_lines_may_be_long_and_cut_anywhere(script: Any, client: Client) -> None:
    long = b"x" * 3_000_000
    script.then_stream(b"one\ntw", b"o\n", long, b"\nend\n")
    assert await lines_of(client) == [b"one", b"two", long, b"end"]
    query = script.requests[0].query
    assert (query["resourceVersion"], query["allowWatchBookmarks"]) == ("7", "true")


async def test_a_watch_from_too_old_a_version_is_gone(script: Any, client: Client) -> None:
    script.then(410, {"reason": "Expired", "message": "too old"})
    with pytest.raises(Gone):
        await lines_of(client)


async def test_the_rate_is_kept_and_a_burst_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = 0.0, []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))

    monkeypatch.setattr("latentry_operator.kube.client.asyncio.sleep", sleep)
    limit = RateLimit(10, 2, lambda: now)
    for _ in range(4):
        await limit.take()
    assert slept == [0.1, 0.2]
    now = 100.0
    await limit.take()
    assert len(slept) == 2


def test_backoff_doubles_to_a_bound_within_its_jitter() -> None:
    for attempt in (1, 2, 3, 10, 10_000):
        middle = min(5.0, 0.2 * 2.0 ** min(attempt - 1, 30))
        assert all(middle * 0.5 <= backoff(attempt, 0.2, 5.0) <= middle * 1.5 for _ in range(50))


MODEL = Stored({"metadata": {"name": "m", "namespace": "ns", "uid": "u", "resourceVersion": "1"}})


async def write_events(client: Client, *happenings: Happening) -> None:
    recorder = EventRecorder(client, instance="me", now=lambda: datetime(2026, 1, 1, tzinfo=UTC), clock=lambda: 0.0)
    for happening in happenings:
        await recorder._write(LATENT_MODEL, MODEL, recorder._combined(MODEL, happening))


async def test_a_repeated_event_is_counted(script: Any, client: Client) -> None:
    script.then(201)
    same = Happening("Warning", "Stalled", "late")
    await write_events(client, same, same, Happening("Warning", "Stalled", "later"))
    assert [request.method for request in script.requests] == ["POST", "PATCH", "POST"]
    assert (await script.requests[1].json())["count"] == 2
    first = await script.requests[0].json()
    assert first["involvedObject"] | {"uid": "u"} == first["involvedObject"]
    assert script.requests[1].path.endswith(first["metadata"]["name"])


async def test_many_alike_become_one(script: Any, client: Client) -> None:
    script.then(201)
    await write_events(client, *(Happening("Normal", "Scaling", f"{count} replicas") for count in range(30)))
    posted = [request for request in script.requests if request.method == "POST"]
    assert len(posted) == 11
    assert "many alike" in (await posted[-1].json())["message"]


class Clock:
    """Monotonic seconds and the time of day, which need not agree."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


def election(client: Client, clock: Clock) -> Election:
    return Election(client, ("ns", "lease"), "me", LeaseSettings(), clock=clock.monotonic, now=clock.now)


def lease(holder: str, version: str, duration: int = 15) -> dict[str, Any]:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": duration, "leaseTransitions": 4}
    return {"metadata": {"namespace": "ns", "name": "lease", "resourceVersion": version}, "spec": spec}


async def test_a_lease_nobody_has_is_created(script: Any, client: Client) -> None:
    script.then(404).then(201)
    assert await election(client, Clock())._attempt()
    made = await script.requests[1].json()
    assert made["spec"]["holderIdentity"] == "me"
    assert made["spec"]["leaseTransitions"] == 0


async def test_anothers_lease_is_taken_only_after_it_stood_still_for_its_duration(script: Any, client: Client) -> None:
    clock = Clock()
    candidate = election(client, clock)
    script.then(200, lease("other", "1"))
    assert not await candidate._attempt()
    clock.seconds = 14.9
    assert not await candidate._attempt()
    script.answers.clear()
    script.then(200, lease("other", "2"))  # it was renewed
    assert not await candidate._attempt()
    clock.seconds = 29.8
    assert not await candidate._attempt()
    clock.seconds = 30.0
    assert await candidate._attempt()
    taken = await script.requests[-1].json()
    assert (taken["spec"]["holderIdentity"], taken["spec"]["leaseTransitions"]) == ("me", 5)
    assert taken["metadata"]["resourceVersion"] == "2"  # so that only one of several candidates succeeds


async def test_a_candidate_that_comes_second_does_not_lead(script: Any, client: Client) -> None:
    script.then(200, lease("", "1")).then(409, {"reason": "Conflict"})
    assert not await election(client, Clock())._attempt()


async def test_an_unreachable_server_is_no_renewal(script: Any, client: Client) -> None:
    script.then(503)
    assert not await election(client, Clock())._attempt()
    assert len(script.requests) == 1  # the next attempt is the election's own, in time for its deadline


async def test_release_is_only_of_ones_own(script: Any, client: Client) -> None:
    script.then(200, lease("other", "1"))
    await election(client, Clock()).release()
    assert [request.method for request in script.requests] == ["GET"]
    script.answers.clear()
    script.then(200, lease("me", "1"))
    await election(client, Clock()).release()
    assert (await script.requests[-1].json())["spec"]["holderIdentity"] == ""
