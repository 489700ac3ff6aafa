"""The kernel's names of the threads."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.daemon.process import ThreadNames

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")


@contextmanager
def sleeping(name: str) -> Iterator[threading.Thread]:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, args=(10,), name=name)
    thread.start()
    try:
        yield thread
    finally:
        done.set()
        thread.join(5)


def kernel_name(thread: threading.Thread) -> str:
    return Path(f"/proc/self/task/{thread.native_id}/comm").read_text().rstrip("\n")


def test_the_kernel_knows_each_thread_by_its_name() -> None:
    with sleeping("infer-garden") as inference, sleeping("capture garden") as capture:
        ThreadNames().update()
        assert [kernel_name(inference), kernel_name(capture)] == ["infer-garden", "capture garden"]


def test_a_thread_that_came_later_is_named_by_the_next_call() -> None:
    names = ThreadNames()
    names.update()
    with sleeping("infer-door") as late:
        assert kernel_name(late) != "infer-door"
        names.update()
        assert kernel_name(late) == "infer-door"


@pytest.mark.parametrize(("name", "shortened"), [("a" * 20, "a" * 15), ("infer-haustor-über", "infer-haustor-")])
def test_a_long_name_is_cut_between_two_characters(name: str, shortened: str) -> None:
    with sleeping(name) as thread:
        ThreadNames().update()
        assert kernel_name(thread) == shortened


def test_the_process_keeps_its_own_name() -> None:
    before = kernel_name(threading.main_thread())
    ThreadNames().update()
    assert kernel_name(threading.main_thread()) == before
