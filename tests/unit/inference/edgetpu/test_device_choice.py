"""Which TPU a classifier takes, and when a pause ends because one was plugged in again."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from stand_in import FRESH, LOADED, Machine, model_pair, pixel

from edge_classifierd.inference.edgetpu import device_choice
from edge_classifierd.inference.edgetpu.device_choice import AbsentError, DeviceChoice
from edge_classifierd.inference.edgetpu.device_lock import BusyError, claim
from edge_classifierd.inference.edgetpu.devices import Selector, Tpu
from edge_classifierd.inference.edgetpu.subprocess_classifier import SubprocessClassifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "root")
    made.add("1-1")
    made.add("1-2")
    return made


def occupy(machine: Machine, device: str) -> DeviceChoice:
    return DeviceChoice(Selector.parse(device), machine.root, must_be_listed=False)


def waited_s(place: DeviceChoice, action: Callable[[], object], *, patient: bool) -> float:
    """How long a pause of 1.6 s lasts when `action` happens after 0.3 s."""
    timer = threading.Timer(0.3, action)
    timer.start()
    began = time.monotonic()
    assert place.wait(1.6, threading.Event(), patient=patient)
    timer.join()
    return time.monotonic() - began


def test_the_same_port_is_kept_when_its_number_shifts(machine: Machine) -> None:
    place = occupy(machine, "usb:1")
    assert place.take().tpu.port == "1-2"
    machine.remove("1-1")  # 1-2 is usb:0 now
    kept = place.take()
    assert (kept.tpu.port, str(kept.tpu)) == ("1-2", "usb:0")
    place.release()


def test_a_number_never_opens_a_stick_that_another_one_holds(machine: Machine) -> None:
    first, second = occupy(machine, "usb:0"), occupy(machine, "usb:1")
    first.take()
    second.take()
    machine.remove("1-1")  # usb:0 means 1-2 now, which the other one has
    with pytest.raises(BusyError):
        first.take()
    first.release()
    second.release()


def test_any_stick_means_another_free_one_after_a_failure(machine: Machine) -> None:
    place = occupy(machine, "edgetpu")
    assert place.take().tpu.port == "1-1"
    assert place.take().tpu.port == "1-1"
    place.failed()
    assert place.take().tpu.port == "1-2"
    place.works()
    assert place.take().tpu.port == "1-2"
    claim(Tpu("usb", 0, "1-1"), machine.root).close()  # the first one was given up
    place.release()


def test_a_failed_stick_is_taken_again_when_the_other_is_not_free(machine: Machine) -> None:
    other = claim(Tpu("usb", 1, "1-2"), machine.root)
    place = occupy(machine, "usb")
    place.take()
    place.failed()
    assert place.take().tpu.port == "1-1"
    place.release()
    other.close()


def test_what_was_listed_once_is_absent_when_it_is_not_listed(machine: Machine) -> None:
    place = occupy(machine, "usb:0")
    place.take()
    machine.remove("1-1")
    machine.remove("1-2")
    with pytest.raises(AbsentError, match=r"no Edge TPU is plugged in \(device usb:0\)"):
        place.take()
    place.release()


def test_what_was_never_listed_is_left_to_the_library(machine: Machine) -> None:
    place = occupy(machine, "pci:1")
    lease = place.take()
    assert (str(lease.tpu), lease.tpu.path) == ("pci:1", "")
    place.release()


def test_plugging_in_again_ends_a_pause(machine: Machine) -> None:
    place = occupy(machine, "usb:0")
    place.take()
    assert waited_s(place, lambda: machine.add("1-1", FRESH), patient=False) < 1.3
    place.release()


def test_nothing_new_does_not_end_a_pause(machine: Machine) -> None:
    place = occupy(machine, "usb:0")
    place.take()
    assert waited_s(place, lambda: None, patient=False) >= 1.6
    place.release()


def test_a_stick_that_enumerates_anew_does_not_end_a_patient_pause(machine: Machine) -> None:
    place = occupy(machine, "usb:0")
    place.take()
    assert waited_s(place, lambda: machine.add("1-1", LOADED), patient=True) >= 1.6
    place.release()


def test_a_long_absence_ends_a_patient_pause(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_choice, "_REPLACED_S", 0.4)
    place = occupy(machine, "usb:0")
    place.take()
    machine.remove("1-1")
    machine.remove("1-2")

    def plug_in() -> None:
        time.sleep(0.6)
        machine.add("1-1")

    assert waited_s(place, plug_in, patient=True) < 1.5
    place.release()


def test_stopping_ends_the_wait(machine: Machine) -> None:
    stopping = threading.Event()
    stopping.set()
    assert occupy(machine, "usb:0").wait(60.0, stopping, patient=False) is False


def test_the_lock_lasts_until_the_child_is_gone(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    stick = Tpu("usb", 0, "1-1")
    lease = claim(stick, machine.root)
    child = SubprocessClassifier(model_pair(tmp_path / "models")[1], descriptors=lease.descriptors)
    lease.close()  # as the end of our process would
    child.classify(pixel(1, 2, 3))
    with pytest.raises(BusyError):
        claim(stick, machine.root)
    child.close()
    claim(stick, machine.root).close()
