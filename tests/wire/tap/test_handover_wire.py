"""Handing clients over from one tap to another, each in front of a Triton of its own, while they work.

Covered: tritonclient over HTTP and gRPC, raw keep-alive connections, gRPC streams, back and forth at random moments; a
tap killed in the middle; the drain of a tap beside another one.
"""

import asyncio
import queue
import random
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tap_clients import at_work, busy, check, raw_loop, raw_request, read_answer, stream_loop, tensor, tritonclient_loop

from latentry_serving.contract.errors import OperationFailed
from latentry_serving.tap.control_client import ask as ask_tap

pytestmark = pytest.mark.triton
HANDOVERS = 12


class Site:
    """Two listening sockets, and taps that have them in common."""

    def __init__(self, start_tap, folder) -> None:
        self._start_tap = start_tap
        self._folder = folder
        self.http, self.grpc = (socket.create_server(("127.0.0.1", 0), backlog=128) for _ in range(2))
        self.taps = []
        self.paths = []

    def tap(self, triton, *, accepting: bool, **more: object):
        path = str(self._folder / f"tap{len(self.taps)}.sock")
        http, grpc = self.http.fileno(), self.grpc.fileno()
        tap = self._start_tap(
            pass_fds=(http, grpc),
            http_fd=http,
            grpc_fd=grpc,
            accepting=str(accepting).lower(),
            control=path,
            upstream_http=triton.addresses.http,
            upstream_grpc=triton.addresses.grpc,
            operations="{tiny_encode: encode}",
            **more,
        )
        self.taps.append(tap)
        self.paths.append(path)
        return tap

    def address(self, protocol: str) -> str:
        return f"127.0.0.1:{(self.http if protocol == 'http' else self.grpc).getsockname()[1]}"

    def ask(self, number: int, do: str, **more: object) -> dict:
        return asyncio.run(ask_tap(self.paths[number], do, **more))

    def hand_over(self, old: int, new: int, seconds: float = 20.0) -> dict:
        return self.ask(old, "hand over", to=self.paths[new], seconds=seconds)

    def connections(self, number: int) -> int:
        return self.ask(number, "status")["connections"]

    def counted(self, protocol: str, kind: str = "unary") -> dict[str, int]:
        """Outcomes of all taps together."""
        total: dict[str, int] = {}
        for tap in self.taps:
            for outcome, count in tap.outcomes("encode", protocol, kind).items():
                total[outcome] = total.get(outcome, 0) + count
        return total


@pytest.fixture
def site(start_tap, tmp_path) -> Iterator[Site]:
    made = Site(start_tap, tmp_path)
    yield made
    made.http.close()
    made.grpc.close()


@pytest.fixture(scope="module")
def tritons(tiny_triton, running_triton, tiny_bundle):
    return tiny_triton, running_triton(*tiny_bundle)


@pytest.mark.parametrize("seed", [1, 2])
def test_back_and_forth_under_load_every_request_is_answered_and_counted_once(seed, site, tritons, wire):
    for number, triton in enumerate(tritons):
        site.tap(triton, accepting=number == 0)
    http, grpc = site.address("http"), site.address("grpc")
    rng = random.Random(seed)
    moved = 0
    with at_work(
        http=tritonclient_loop(http_client, http),
        http2=tritonclient_loop(http_client, http),
        raw=raw_loop(http, seed),
        raw2=raw_loop(http, seed + 100),
        grpc=tritonclient_loop(grpc_client, grpc),
        grpc2=tritonclient_loop(grpc_client, grpc),
        stream=stream_loop(grpc, 5),
    ) as clients:
        busy(clients)
        for turn in range(HANDOVERS):
            time.sleep(rng.choice((0.0, rng.random() * 0.1)))
            result = site.hand_over(turn % 2, 1 - turn % 2)
            assert (result["left"], result["problem"]) == (0, ""), result
            moved += result["moved"]
            busy(clients)
    assert clients.failures == []
    assert moved == 4 * HANDOVERS
    asked = clients.asked
    wire.eventually(lambda: sum(site.counted("grpc").values()) == asked["grpc"] + asked["grpc2"])
    assert site.counted("http") == {"ok": asked["http"] + asked["http2"] + asked["raw"] + asked["raw2"]}
    assert site.counted("grpc") == {"ok": asked["grpc"] + asked["grpc2"]}
    assert site.counted("grpc", "stream") == {"ok": asked["stream"]}
    assert all(tap.slis().inference.in_flight == 0 for tap in site.taps)


def converse(sock: socket.socket, number: int) -> bool:
    """Whether a request on it is answered; False when the connection is visibly gone."""
    try:
        sock.sendall(raw_request(number))
        _, answer = read_answer(sock.makefile("rb"))
    except ConnectionError:
        return False
    assert answer["outputs"][0]["data"] == [0.0, float(number)]
    return True


def crowd(site: Site, size: int) -> list[socket.socket]:
    """Keep-alive connections that have had one answer each."""
    port = site.http.getsockname()[1]
    socks = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(size)]
    assert all(converse(sock, number) for number, sock in enumerate(socks))
    return socks


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("delay_s", [0.0, 0.03])
def test_a_tap_that_dies_or_hangs_takes_only_those_along_that_it_had(number, delay_s, site, tritons, wire):
    old = site.tap(tritons[0], accepting=True)
    new = site.tap(tritons[1], accepting=False, connect_timeout_seconds=60)  # it is stopped for longer than 2 s
    socks = crowd(site, 300)
    with ThreadPoolExecutor() as pool:
        handing = pool.submit(site.hand_over, 0, 1)
        time.sleep(delay_s)
        new.process.send_signal(number)
        result = handing.result(timeout=60)
    assert result["moved"] + result["left"] == len(socks), result
    assert bool(result["left"]) == bool(result["problem"]), result
    if number == signal.SIGSTOP:
        new.process.send_signal(signal.SIGCONT)
        survivors = len(socks)
    else:
        new.process.wait()
        survivors = result["left"]
    if result["problem"]:
        assert site.ask(0, "status")["accepting"]
        socks.extend(crowd(site, 1))
        survivors += 1
    assert sum(converse(sock, index) for index, sock in enumerate(socks)) == survivors
    for sock in socks:
        sock.close()
    wire.eventually(lambda: site.connections(0) == 0)
    assert set(old.outcomes("encode", "http")) == {"ok"}


def test_clients_that_are_silent_meanwhile_notice_nothing(site, tritons):
    for index, triton in enumerate(tritons):
        site.tap(triton, accepting=index == 0)
    http = http_client.InferenceServerClient(site.address("http"))
    grpc = grpc_client.InferenceServerClient(site.address("grpc"))
    unused = socket.create_connection(("127.0.0.1", site.http.getsockname()[1]), timeout=30)

    def ask_both(number: int) -> None:
        for module, client in ((http_client, http), (grpc_client, grpc)):
            check(client.infer("tiny_encode", tensor(module, number)), number)

    for turn in range(3):
        ask_both(turn)
        result = site.hand_over(turn % 2, 1 - turn % 2)
        assert (result["moved"], result["ended"], result["left"]) == (2, 1, 0), result
    ask_both(9)
    http.close()
    grpc.close()
    assert converse(unused, 3)
    unused.close()
    assert site.counted("http") == {"ok": 5}
    assert site.counted("grpc") == {"ok": 4}


def test_a_long_stream_stays_and_ends_where_it_began(site, tritons, wire):
    first, second = (site.tap(triton, accepting=index == 0) for index, triton in enumerate(tritons))
    answers: queue.Queue = queue.Queue()
    client = grpc_client.InferenceServerClient(site.address("grpc"))
    client.start_stream(lambda result, error: answers.put((result, error)))

    def message(number: int) -> None:
        client.async_stream_infer("tiny_encode", tensor(grpc_client, number))
        result, error = answers.get(timeout=30)
        assert error is None
        check(result, number)

    message(1)
    assert site.hand_over(0, 1, seconds=1.5)["left"] == 1
    message(2)
    check(client.infer("tiny_encode", tensor(grpc_client, 3)), 3)
    message(4)
    client.stop_stream()
    client.close()
    wire.eventually(lambda: site.connections(0) == 0)
    assert first.outcomes("encode", "grpc", "stream") == {"ok": 1}
    assert second.outcomes("encode", "grpc") == {"ok": 1}


def test_told_to_accept_again_a_tap_ends_its_handover(site, tritons):
    for index, triton in enumerate(tritons):
        site.tap(triton, accepting=index == 0)
    busy_sock = socket.create_connection(("127.0.0.1", site.http.getsockname()[1]), timeout=30)
    busy_sock.sendall(raw_request(1)[:-1])
    with ThreadPoolExecutor() as pool:
        handing = pool.submit(site.hand_over, 0, 1, 600.0)
        while not site.ask(0, "status")["handing_over"]:
            time.sleep(0.01)
        with pytest.raises(OperationFailed, match="a handover is on its way"):
            site.hand_over(0, 1)
        assert site.ask(0, "accept") == {"accepting": True, "connections": 1, "waiting": 0, "handing_over": False}
        with pytest.raises(OperationFailed, match="ended by another command"):
            handing.result(timeout=30)
    busy_sock.sendall(raw_request(1)[-1:])
    assert read_answer(busy_sock.makefile("rb"))[1]["outputs"][0]["data"] == [0.0, 1.0]
    assert converse(busy_sock, 2)


def test_while_no_tap_accepts_clients_wait(site, tritons):
    site.tap(tritons[0], accepting=True).kill()
    sock = socket.create_connection(("127.0.0.1", site.http.getsockname()[1]), timeout=30)
    sock.sendall(raw_request(5))
    site.taps.clear()
    site.tap(tritons[1], accepting=True)  # on the same control socket, of which the first has left the remains
    assert read_answer(sock.makefile("rb"))[1]["outputs"][0]["data"] == [0.0, 5.0]


@pytest.mark.parametrize("seed", [1, 2])
def test_taps_that_stop_under_load_beside_another_harm_no_request(seed, site, tritons):
    http, grpc = site.address("http"), site.address("grpc")
    rng = random.Random(seed)
    site.tap(tritons[0], accepting=True, drain_seconds=30)
    with at_work(
        http=tritonclient_loop(http_client, http),
        raw=raw_loop(http, seed, reconnect=True),
        raw2=raw_loop(http, seed + 1, reconnect=True),
        grpc=tritonclient_loop(grpc_client, grpc),
        stream=stream_loop(grpc, 5),
    ) as clients:
        busy(clients)
        for turn in range(3):
            site.tap(tritons[(turn + 1) % 2], accepting=True, drain_seconds=30)
            time.sleep(rng.random() * 0.1)
            assert site.taps[turn].stop() == 0
            busy(clients)
    assert clients.failures == []
