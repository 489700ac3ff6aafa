"""The kernel's list of Edge TPUs, their heat, the reset of a port, and the lock on each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stand_in import FRESH, LOADED, Machine

from edge_classifierd.errors import InferenceError, MissingError, UsageError
from edge_classifierd.inference.base import AcceleratorTemperature
from edge_classifierd.inference.edgetpu.device_lock import BusyError, claim
from edge_classifierd.inference.edgetpu.devices import (
    ROOT,
    HeatWarning,
    Selector,
    Tpu,
    list_tpus,
    read_temperature,
    reset_usb_port,
)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def named(machine: Machine) -> list[tuple[str, str]]:
    return [(str(tpu), tpu.port) for tpu in list_tpus(machine.root)]


def test_a_machine_without_sysfs_has_no_edge_tpu(tmp_path: Path) -> None:
    assert list_tpus(tmp_path) == ()


def test_other_usb_devices_are_no_edge_tpus(machine: Machine) -> None:
    assert named(machine) == []


def test_both_usb_ids_and_cards_are_listed_in_the_order_of_their_ports(machine: Machine) -> None:
    machine.add("1-1.10", LOADED)
    machine.add("1-1.2", FRESH)
    machine.add_card("apex_1")
    machine.add_card("apex_0")
    assert named(machine) == [
        ("pci:0", "apex_0"), ("pci:1", "apex_1"), ("usb:0", "1-1.2"), ("usb:1", "1-1.10"),
    ]  # fmt: skip


def test_loading_the_firmware_keeps_the_name_and_changes_the_incarnation(machine: Machine) -> None:
    machine.add("1-1", FRESH)
    (before,) = list_tpus(machine.root)
    machine.add("1-1", LOADED)
    (after,) = list_tpus(machine.root)
    assert (str(before), before.port) == (str(after), after.port)
    assert before.incarnation != after.incarnation


def test_a_device_that_vanishes_while_it_is_read_is_not_listed(machine: Machine) -> None:
    machine.add("1-1")
    (machine.root / "sys/bus/usb/devices/1-1/idProduct").unlink()
    assert named(machine) == []


def test_the_root_comes_from_the_environment(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.add("1-1")
    monkeypatch.setenv(ROOT, str(machine.root))
    assert [str(tpu) for tpu in list_tpus()] == ["usb:0"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("edgetpu", ["pci:0", "usb:0", "usb:1"]),
        ("usb", ["usb:0", "usb:1"]),
        ("usb:1", ["usb:1"]),
        ("pci", ["pci:0"]),
        ("pci:3", []),
    ],
)
def test_a_selector_means_these(machine: Machine, text: str, meant: list[str]) -> None:
    machine.add("1-1")
    machine.add("2-1")
    machine.add_card()
    selector = Selector.parse(text)
    assert [str(tpu) for tpu in list_tpus(machine.root) if selector.matches(tpu)] == meant
    assert str(selector) == text


@pytest.mark.parametrize("text", ["tpu", "usb:", "usb:-1", "usb:x", "pci:100", "", ":0", "gpu"])
def test_an_unknown_device_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="edgetpu, usb, usb:0, pci and pci:0"):
        Selector.parse(text)


@pytest.mark.parametrize(
    ("millidegrees", "clock"), [(45_000, 500), (84_799, 500), (84_800, 250), (90_000, 125), (99_000, 62.5)]
)
def test_the_clock_follows_from_the_temperature(machine: Machine, millidegrees: int, clock: float) -> None:
    machine.add_card("apex_0", millidegrees)
    (card,) = list_tpus(machine.root)
    assert read_temperature(card, machine.root) == AcceleratorTemperature(millidegrees / 1000, clock)


def test_the_drivers_own_trip_points_count(machine: Machine) -> None:
    machine.add_card("apex_0", 70_000)
    (machine.root / "sys/class/apex/apex_0/trip_point0_temp").write_text("65000\n")
    (card,) = list_tpus(machine.root)
    assert read_temperature(card, machine.root) == AcceleratorTemperature(70.0, 250.0)
    (machine.root / "sys/class/apex/apex_0/temp_poll_interval").write_text("0\n")
    assert read_temperature(card, machine.root) == AcceleratorTemperature(70.0, 500.0)


def test_a_stick_or_an_unreadable_sensor_has_no_temperature(machine: Machine) -> None:
    machine.add("1-1")
    machine.add_card("apex_0")
    (machine.root / "sys/class/apex/apex_0/temp").write_text("N/A\n")
    assert [read_temperature(tpu, machine.root) for tpu in list_tpus(machine.root)] == [None, None]


def test_the_heat_warning_does_not_flap(machine: Machine) -> None:
    machine.add_card()
    warning = HeatWarning(list_tpus(machine.root)[0], machine.root)
    said = []
    for degrees in (80, 84, 85, 84, 81, 80, 79, 84, 85):
        machine.add_card("apex_0", degrees * 1000)
        warning.check()
        said.append(warning.sentence is not None)
    assert said == [False, False, True, True, True, True, False, False, True]
    assert "pci:0 is 85 °C hot and its clock is 250 MHz" in (warning.sentence or "")


def test_a_port_that_cannot_be_reset_is_one_sentence(machine: Machine) -> None:
    machine.add("1-1")
    (stick,) = list_tpus(machine.root)
    with pytest.raises(InferenceError, match="001/004: the USB port of usb:0 cannot be reset: Inappropriate ioctl"):
        reset_usb_port(stick, machine.root)
    machine.remove("1-1")
    with pytest.raises(InferenceError, match="it is not there"):
        reset_usb_port(stick, machine.root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may reset any port")
def test_a_reset_without_the_right_names_the_group(machine: Machine) -> None:
    machine.add("1-1")
    (machine.root / "dev/bus/usb/001/004").chmod(0)
    with pytest.raises(InferenceError, match="plugdev"):
        reset_usb_port(list_tpus(machine.root)[0], machine.root)


STICK = Tpu("usb", 0, "1-1")


def test_a_second_claim_is_refused_until_the_first_is_given_up(machine: Machine) -> None:
    first = claim(STICK, machine.root)
    with pytest.raises(BusyError, match="usb:0 is in use by another pipeline of this process"):
        claim(STICK, machine.root)
    first.close()
    first.close()
    claim(STICK, machine.root).close()


def test_another_process_is_named(machine: Machine) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from edge_classifierd.inference.edgetpu.devices import Tpu\n"
        "from edge_classifierd.inference.edgetpu.device_lock import claim\n"
        "lease = claim(Tpu('usb', 0, '1-1'), Path(sys.argv[1]))\nprint('held', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(machine.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=rf"in use by process {holder.pid} \(python"):
            claim(STICK, machine.root)
        claim(Tpu("usb", 1, "1-2"), machine.root).close()
        holder.kill()
        holder.wait()
    claim(STICK, machine.root).close()


def test_the_services_own_folder_and_everybodys_exclude_each_other(machine: Machine) -> None:
    with_both = machine.root / "run/edge-classifierd"
    outside = claim(STICK, machine.root)  # the service is not running: only run/lock is there
    with_both.mkdir()
    with pytest.raises(BusyError):
        claim(STICK, machine.root)
    outside.close()
    inside = claim(STICK, machine.root)
    assert len(inside.descriptors) == 2
    (machine.root / "run/lock").rename(machine.root / "run/gone")
    with pytest.raises(BusyError):
        claim(STICK, machine.root)
    inside.close()


def test_a_refused_claim_leaves_nothing_open(machine: Machine) -> None:
    (machine.root / "run/edge-classifierd").mkdir()
    name = "edge-classifierd-usb-1-1.lock"
    held = claim(STICK, machine.root)
    (machine.root / "run/edge-classifierd" / name).unlink()  # free in the first folder, held in the second
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(BusyError):
        claim(STICK, machine.root)
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    held.close()


def test_no_place_for_a_lock_is_one_sentence(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine.root / "run/lock").rmdir()
    monkeypatch.setattr("tempfile.tempdir", str(machine.root / "nowhere"))
    with pytest.raises(MissingError, match=r"usb:0: no lock file can be made: .*No such file"):
        claim(STICK, machine.root)
