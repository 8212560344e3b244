"""Users of a model that is being replaced: several clients of both protocols that check every answer they get.

A request is harmed when it got no answer or an error, when the vector or score it got is not finite or neither the one
of the stable version nor that of a good candidate, or when it took longer than the latency objective allows while the
version on trial had the traffic.
"""

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from bench.rollouts_bundles import OUTPUTS
from numpy.typing import NDArray

Array = NDArray[np.float32]

TOLERANCE = 1e-2
"""Largest difference of two answers that are the same. float32 in another batch stays far below; of int8,
one rounding that falls the other way is about a third of it."""
CALL_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a user.

    Attributes:
        began: Unix time. seconds: until the last byte of the answer.
        answer: name of the version whose answer it is, empty for none of those that are right.
        problem: why it is no good, empty when it is.
    """

    client: str
    began: float
    seconds: float
    answer: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Harm:
    """What users saw in a time.

    Attributes:
        failed: without an answer. wrong: with an answer that is not right.
        slow: right, over the limit, and begun while the version on trial had the traffic.
        slow_otherwise: right and over the limit, but while the stable version answered: a second Triton that starts
            beside it takes its cores. No harm of the version's answers.
        problems: what went wrong -> how often, the five most frequent.
    """

    requests: int
    failed: int
    wrong: int
    slow: int
    slow_otherwise: int
    problems: Mapping[str, int]

    @property
    def harmed(self) -> int:
        return self.failed + self.wrong + self.slow

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.harmed / max(1, self.requests)


def harm(calls: Sequence[Call], slow_seconds: float, trial: tuple[float, float] = (0.0, 0.0)) -> Harm:
    """Counts each call once: failed before wrong before slow.

    Args:
        trial: Unix times between which the version on trial had the traffic.
    """
    failed = [call for call in calls if call.problem and not call.problem.startswith("answer")]
    wrong = [call for call in calls if call.problem.startswith("answer")]
    slow = [trial[0] <= call.began < trial[1] for call in calls if not call.problem and call.seconds > slow_seconds]
    problems = Counter(f"{call.client}: {call.problem}"[:160] for call in (*failed, *wrong))
    return Harm(len(calls), len(failed), len(wrong), sum(slow), len(slow) - sum(slow), dict(problems.most_common(5)))


@dataclass
class Traffic:
    """Clients at a steady pace, each in a thread of its own, all with real digits.

    Attributes:
        images: [n, 1, 8, 8], sent one by one, each by one client; from the start again after the last.
        expected: version -> operation -> the answers [n, d] that are right.
        per_second: of each client.
    """

    http: str
    grpc: str
    model: str
    images: Array
    expected: Mapping[str, Mapping[str, Array]]
    per_second: float = 25.0
    calls: list[Call] = field(default_factory=list)
    """Appended to by the clients' threads, in the order in which calls end."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._broken: list[BaseException] = []

    @contextlib.contextmanager
    def running(self) -> Iterator["Traffic"]:
        """Sends until the context ends.

        Raises:
            AssertionError: a client itself broke.
        """
        threads = [
            threading.Thread(target=self._client, args=(index, name, kind), name=name, daemon=True)
            for index, (name, kind) in enumerate(CLIENTS.items())
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(CALL_SECONDS + 5)
        assert not self._broken, self._broken

    def _client(self, index: int, name: str, kind: Callable[["Traffic"], Any]) -> None:
        try:
            with contextlib.closing(kind(self)) as client:
                self._send(index, name, client)
        except Exception as error:  # noqa: BLE001 - told by `running`
            self._broken.append(error)

    def _send(self, index: int, name: str, client: Any) -> None:
        rows = itertools.cycle(range(index, len(self.images), len(CLIENTS)))
        due = time.monotonic() + index / (self.per_second * len(CLIENTS))
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            row = next(rows)
            began, since = time.time(), time.monotonic()
            try:
                answer, problem = self._judge(row, client.operation, client.call(self.images[row : row + 1]))
            except Exception as error:  # noqa: BLE001 - whatever a client library raises is a failed request
                answer, problem = "", f"{type(error).__name__}: {error}".splitlines()[0]
            self.calls.append(Call(name, began, time.monotonic() - since, answer, problem))
            # Nobody catches up after a slow answer: that would be a burst no user makes.
            due = max(due + 1 / self.per_second, time.monotonic())

    def _judge(self, row: int, operation: str, found: Array) -> tuple[str, str]:
        if not np.isfinite(found).all():
            return "", "answer is not finite"
        for version, answers in self.expected.items():
            right = answers[operation][row]
            if found.shape == (1, *right.shape) and (np.abs(found[0] - right) <= TOLERANCE * (1 + np.abs(right))).all():
                return version, ""
        return "", "answer is another one"


class _Grpc:
    """tritonclient over one HTTP/2 connection."""

    operation = "encode"

    def __init__(self, traffic: Traffic) -> None:
        self._client = grpc_client.InferenceServerClient(traffic.grpc)
        self._model = f"{traffic.model}_{self.operation}"

    def call(self, image: Array) -> Array:
        result = self._client.infer(self._model, [_tensor(grpc_client, image)], client_timeout=CALL_SECONDS)
        return _array(result.as_numpy(OUTPUTS[self.operation]), self.operation)

    def close(self) -> None:
        self._client.close()


class _GrpcScore(_Grpc):
    """The same for reconstruction errors."""

    operation = "score"


class _Http:
    """tritonclient over HTTP/1.1 with binary tensors, connections kept."""

    operation = "encode"

    def __init__(self, traffic: Traffic) -> None:
        self._client = http_client.InferenceServerClient(traffic.http, network_timeout=CALL_SECONDS)
        self._model = f"{traffic.model}_encode"

    def call(self, image: Array) -> Array:
        found = self._client.infer(self._model, [_tensor(http_client, image)]).as_numpy(OUTPUTS[self.operation])
        return _array(found, self.operation)

    def close(self) -> None:
        self._client.close()


class _Json:
    """JSON over HTTP/1.1, the connection kept."""

    operation = "encode"

    def __init__(self, traffic: Traffic) -> None:
        self._client = _plain_client()
        self._url = f"http://{traffic.http}/v2/models/{traffic.model}_encode/infer"

    def call(self, image: Array) -> Array:
        given = {"name": "image", "shape": list(image.shape), "datatype": "FP32", "data": image.ravel().tolist()}
        answer = self._client.post(self._url, json={"inputs": [given]})
        if answer.is_error:
            raise httpx.HTTPError(f"{answer.status_code} {answer.text[:120]}")
        found = {tensor["name"]: tensor for tensor in answer.json()["outputs"]}[OUTPUTS[self.operation]]
        return np.array(found["data"], np.float32).reshape(found["shape"])

    def close(self) -> None:
        self._client.close()


class _JsonOnce(_Json):
    """JSON over HTTP/1.1, a new connection for every request."""

    def call(self, image: Array) -> Array:
        self._client.close()
        self._client = _plain_client()
        return super().call(image)


CLIENTS: Mapping[str, Callable[[Traffic], Any]] = {
    "gRPC": _Grpc,
    "gRPC, score": _GrpcScore,
    "HTTP binary": _Http,
    "HTTP JSON": _Json,
    "HTTP JSON, a connection each": _JsonOnce,
}


def _plain_client() -> httpx.Client:
    return httpx.Client(timeout=CALL_SECONDS, verify=False)  # reading certificates takes longer than any call here


def _tensor(module: Any, image: Array) -> Any:
    tensor = module.InferInput("image", list(image.shape), "FP32")
    tensor.set_data_from_numpy(image)
    return tensor


def _array(found: Array | None, operation: str) -> Array:
    if found is None:
        raise KeyError(f"no output {OUTPUTS[operation]}")
    return found
