"""An Edge TPU that is unplugged, plugged in again, moved to another port or used by another process."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from failover_fakes import RED, child_of, journal, until
from stand_in import FRESH, LOADED

from edge_classifierd.errors import MissingError
from edge_classifierd.inference.edgetpu.device_lock import claim
from edge_classifierd.inference.edgetpu.devices import Tpu

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stand_in import Machine

pytestmark = pytest.mark.usefixtures("machine")


def test_an_unplugged_stick_is_waited_for_and_used_when_it_is_back(
    start: Callable[..., Any], machine: Machine, tmp_path: Path
) -> None:
    classifier = start(also={"mode": "ok"})
    os.kill(child_of(classifier), signal.SIGABRT)
    machine.remove("1-1")
    assert classifier.classify(RED).accelerator == "cpu"
    until(lambda: "no Edge TPU is plugged in" in (classifier.degradation or ""), 6.0)
    tries = len(journal(tmp_path))
    time.sleep(1.5)
    assert len(journal(tmp_path)) == tries
    machine.add("1-1", FRESH)
    assert until(lambda: classifier.accelerator == "usb:0") < 8.0
    machine.add("1-1", LOADED)
    assert classifier.classify(RED).accelerator == "usb:0"


def test_a_stick_that_hangs_while_loading_is_not_waited_for_once_it_is_plugged_in_again(
    start: Callable[..., Any], fault: Path, machine: Machine, tmp_path: Path
) -> None:
    classifier = start(mode="stuck", load_deadline_s=60.0)
    fault.touch()
    assert classifier.classify(RED).accelerator == "cpu"
    until(lambda: len(journal(tmp_path)) == 2)  # the second child loads, and hangs
    time.sleep(0.3)
    fault.unlink()
    machine.add("1-1", FRESH)
    assert until(lambda: classifier.classify(RED).accelerator == "usb:0") < 8.0
    assert classifier.degradation is None


def test_a_stick_in_another_port_is_found(start: Callable[..., Any], machine: Machine) -> None:
    classifier = start()
    os.kill(child_of(classifier), signal.SIGABRT)
    machine.remove("1-1")
    classifier.classify(RED)
    time.sleep(0.6)
    machine.add("2-4", FRESH)
    until(lambda: classifier.accelerator == "usb:0", 6.0)


def test_the_child_asks_the_library_for_the_number_of_its_port(
    start: Callable[..., Any], machine: Machine, tmp_path: Path
) -> None:
    """The library counts sticks without firmware first; sysfs is counted by port."""
    machine.add("1-2", FRESH)
    machine.listed_by_library("/dev/apex_0", "/sys/bus/usb/devices/1-2", "/sys/bus/usb/devices/1-1")
    classifier = start("usb:0")
    assert classifier.classify(RED).accelerator == "usb:0"
    assert [made[1] for made in journal(tmp_path)] == ["usb:1"]


def test_a_port_that_the_library_does_not_see_is_not_opened_by_another_number(
    start: Callable[..., Any], machine: Machine
) -> None:
    machine.listed_by_library("/sys/bus/usb/devices/4-1")
    with pytest.raises(MissingError, match=r"sees /sys/bus/usb/devices/4-1 but not /sys/bus/usb/devices/1-1"):
        start(fallback=False)


def test_auto_without_a_tpu_uses_the_cpu_and_then_one_that_is_plugged_in(
    start: Callable[..., Any], machine: Machine
) -> None:
    machine.remove("1-1")
    classifier = start("auto")
    assert classifier.classify(RED).accelerator == "cpu"
    assert classifier.degradation is None
    machine.add("1-1", FRESH)
    assert until(lambda: classifier.accelerator == "usb:0") < 8.0


def test_a_tpu_that_another_process_uses_is_refused_by_name_and_taken_when_free(
    start: Callable[..., Any], machine: Machine
) -> None:
    lease = claim(Tpu("usb", 0, "1-1"), machine.root)
    with pytest.raises(MissingError, match="in use by another pipeline of this process"):
        start(fallback=False)
    classifier = start()
    assert "in use by" in classifier.degradation
    lease.close()
    assert until(lambda: classifier.accelerator == "usb:0") < 8.0


def test_without_sysfs_the_library_is_asked(start: Callable[..., Any], machine: Machine) -> None:
    machine.remove("1-1")
    assert start("usb:0").classify(RED).accelerator == "usb:0"
