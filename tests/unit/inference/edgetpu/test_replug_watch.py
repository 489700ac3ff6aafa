"""A stick that is plugged in again while a process loads on it ends that process; loading its firmware does not."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from stand_in import FRESH, LOADED, Machine

from edge_classifierd.inference.edgetpu import replug_watch
from edge_classifierd.inference.edgetpu.devices import list_tpus
from edge_classifierd.inference.edgetpu.replug_watch import ReplugWatch

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(replug_watch, "_CHECK_EVERY_S", 0.01)
    return Machine(tmp_path / "root")


def watch(machine: Machine, ended: threading.Event) -> ReplugWatch:
    return ReplugWatch(list_tpus(machine.root)[0], machine.root, ended.set)


@pytest.mark.parametrize("before", [FRESH, LOADED])
def test_a_stick_without_firmware_again_was_plugged_in_again(machine: Machine, before: tuple[str, str]) -> None:
    machine.add("1-1", before)
    ended = threading.Event()
    with watch(machine, ended) as watching:
        assert not ended.wait(0.1)
        machine.remove("1-1")
        assert not ended.wait(0.1)
        machine.add("1-1", FRESH)
        assert ended.wait(5)
    assert watching.noticed


def test_loading_the_firmware_and_other_ports_end_nothing(machine: Machine) -> None:
    machine.add("1-2", FRESH)
    ended = threading.Event()
    with watch(machine, ended) as watching:
        machine.add("1-2", LOADED)
        machine.add("1-1", FRESH)
        assert not ended.wait(0.2)
    assert not watching.noticed


def test_a_card_needs_no_thread_and_a_stick_needs_none_afterwards(machine: Machine) -> None:
    machine.add_card()
    machine.add("1-1", FRESH)
    card, stick = list_tpus(machine.root)
    with ReplugWatch(card, machine.root, threading.Event().set):
        assert threads() == 0
    with ReplugWatch(stick, machine.root, threading.Event().set):
        assert threads() == 1
    assert threads() == 0


def threads() -> int:
    return sum(thread.name == "edgetpu-replug" for thread in threading.enumerate())
