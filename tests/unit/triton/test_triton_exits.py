"""The end of processes, heard of when it happens."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from latentry_serving.triton.exits import exits

WAITING = [sys.executable, "-c", "input()"]


@pytest.fixture
def two():
    made = [subprocess.Popen(WAITING, stdin=subprocess.PIPE) for _ in range(2)]
    yield made
    for process in made:
        process.kill()
        process.communicate()


async def test_the_end_of_one_is_told_and_told_again_after_it_was_cleared(two):
    with exits(process.pid for process in two) as one_ended:
        assert not one_ended.is_set()
        for process in reversed(two):
            process.kill()
            await one_ended.wait()
            one_ended.clear()
        await asyncio.sleep(0)
        assert not one_ended.is_set()


async def test_one_that_is_gone_is_told_of_at_once(two):
    two[0].kill()
    two[0].wait()
    with exits([two[0].pid]) as one_ended:
        assert one_ended.is_set()


def open_files() -> list[Path]:
    return list(Path("/proc/self/fd").iterdir())


async def test_nothing_is_left_open(two):
    before = open_files()
    with exits(process.pid for process in two):
        assert len(open_files()) > len(before)
    assert len(open_files()) == len(before)


async def test_where_the_kernel_cannot_tell_nothing_is_heard(two, monkeypatch):
    def forbidden(_pid: int) -> int:
        raise PermissionError("not here")

    monkeypatch.setattr(os, "pidfd_open", forbidden)
    with exits([two[0].pid]) as one_ended:
        assert not one_ended.is_set()
