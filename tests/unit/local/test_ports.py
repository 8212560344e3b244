"""Ports on one machine: the wanted one while free, the next free one after, never one twice."""

import socket

import pytest

from latentry_operator.local.ports import PortAllocator, is_free
from latentry_serving.contract.errors import OperationFailed


def test_the_wanted_port_while_it_is_free() -> None:
    assert PortAllocator(lambda _: True).take(8080) == 8080


def test_the_next_free_port_when_it_is_taken() -> None:
    assert PortAllocator(lambda port: port > 8083).take(8080) == 8084


def test_no_port_is_given_twice() -> None:
    ports = PortAllocator(lambda _: True)
    assert [ports.take(8080), ports.take(8080), ports.take(8081)] == [8080, 8081, 8082]


def test_a_full_range_is_an_error_that_names_it() -> None:
    with pytest.raises(OperationFailed, match="no free port between 8080 and 8280"):
        PortAllocator(lambda _: False).take(8080)


def test_a_real_listener_is_noticed() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert not is_free(listener.getsockname()[1])


def test_a_port_that_is_given_back_is_given_again() -> None:
    allocate = PortAllocator(free=lambda _: True)
    first = allocate.take(9_400)
    assert allocate.take(9_400) == 9_401
    allocate.give_back(first)
    assert allocate.take(9_400) == first
