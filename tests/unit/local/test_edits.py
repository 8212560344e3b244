"""Edits of a file: taken once, only when they stand still, whatever way they were written; touched is not edited."""

import os
from pathlib import Path

import pytest

from latentry_operator.local.edits import WatchedFile


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.yaml"
    path.write_text("one")
    return path


def test_an_edit_counts_once_and_only_when_two_looks_saw_the_same(file: Path) -> None:
    watched = WatchedFile(file)
    looks = [watched.changed()]
    file.write_text("half of i")
    looks.append(watched.changed())
    file.write_text("half of it, and the rest")
    looks += [watched.changed(), watched.changed(), watched.changed()]
    assert looks == [False, False, False, True, False]


def test_a_file_that_is_renamed_into_place_counts_too(file: Path) -> None:
    watched = WatchedFile(file)
    (file.parent / "new").write_text("two")
    (file.parent / "new").replace(file)
    assert [watched.changed(), watched.changed()] == [False, True]


def test_what_holds_the_same_as_before_was_not_edited(file: Path) -> None:
    watched = WatchedFile(file)
    os.utime(file, (1, 1))
    assert [watched.changed(), watched.changed()] == [False, False]


def test_a_deleted_file_is_an_edit_and_so_is_its_return(file: Path) -> None:
    watched = WatchedFile(file)
    file.unlink()
    assert [watched.changed(), watched.changed(), watched.changed()] == [False, True, False]
    file.write_text("one")
    assert [watched.changed(), watched.changed(), watched.changed()] == [False, True, False]


def test_forgotten_it_is_read_again_although_nobody_edited_it(file: Path) -> None:
    watched = WatchedFile(file)
    watched.forget()
    assert [watched.changed(), watched.changed()] == [True, False]
