"""Drives a real Home Assistant: everything that people see of the device, through restarts, removals and renaming.

Started by home_assistant.sh. Prints one line for each thing that holds and ends with the first that does not.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
LAB = Path(os.environ["HOME_ASSISTANT_LAB"])
sys.path.insert(0, str(LAB))

import ha_client as ha  # noqa: E402 - of the lab

PHOTOS = ROOT / "edge_classifierd" / "demo_photos"
CAT = {"name": "cat", "labels": ["*cat*"], "threshold": 0.5, "release": 0.3, "device_class": "presence"}
CUP = {"name": "coffee-cup", "labels": ["espresso", "cup"], "threshold": 0.3, "release": 0.1}
UNKNOWN_BY_NATURE = ("button.", "event.{}_garden_event")
HOST_TEMPERATURE = any(
    (zone / "type").read_text().strip() in {"cpu-thermal", "x86_pkg_temp"}
    for zone in Path("/sys/class/thermal").glob("thermal_zone*")
)
WITHIN_S = 10.0
count = 0


def holds(what: str, *shown: object) -> None:
    global count  # noqa: PLW0603 - a script
    count += 1
    print(f"ok {count} {what}", *shown, flush=True)


class Device:
    """The daemon on a folder of photographs that can be changed while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "config.yaml"
        self.log = folder / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None
        for place, names in (("driveway", ["cat"] * 8 + ["coffee"] * 8), ("garden", ["photographer"])):
            (folder / place).mkdir()
            for number, name in enumerate(names):
                shutil.copy(PHOTOS / f"{name}.jpg", folder / place / f"{number:02}.jpg")

    def configure(
        self,
        *watches: dict[str, Any],
        device: str = "porch",
        name: str = "Porch",
        garden: bool = True,
        home_assistant: dict[str, Any] | None = None,
    ) -> None:
        pipelines = [self._pipeline("driveway", 2.0) | {"watches": list(watches)}]
        if garden:
            pipelines.append(self._pipeline("garden", 1.0))
        mqtt = {"host": "127.0.0.1", "port": ha.env()["mqtt_port"], "home_assistant": home_assistant or {}}
        document = {"device": {"id": device, "name": name}, "mqtt": mqtt, "pipelines": pipelines}
        self.file.write_text(yaml.safe_dump(document, sort_keys=False))

    def _pipeline(self, name: str, fps: float) -> dict[str, Any]:
        source = {"type": "folder", "path": str(self.folder / name), "fps": fps, "loop": True}
        return {"name": name, "source": source, "model": {"threads": 1}}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "edge_classifierd", *arguments, "--config", str(self.file)]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "EDGE_CLASSIFIERD_STATE": str(self.folder / "state")}

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command("run"), stdout=log, stderr=log, env=self.environment, cwd=ROOT)

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(15)
        self.process = None

    def reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)


def states(device: str = "porch") -> dict[str, str]:
    return {entity: state["state"] for entity, state in ha.states().items() if f".{device}_" in entity}


def until(condition: Any, what: str, timeout_s: float = WITHIN_S) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}; {states()}"
        time.sleep(0.2)


def nothing_unknown(device: str = "porch") -> None:
    """Within ten seconds every entity has a state, apart from those that have none by their nature."""
    exempt = tuple(pattern.format(device) for pattern in UNKNOWN_BY_NATURE)

    def unknown() -> list[str]:
        return [
            entity
            for entity, state in states(device).items()
            if state == "unavailable" or (state == "unknown" and not entity.startswith(exempt))
        ]

    end = time.monotonic() + WITHIN_S
    while missing := unknown():
        assert time.monotonic() < end, f"without a state after {WITHIN_S:g} s: {missing}"
        time.sleep(0.2)


def lab(command: str, *arguments: str) -> None:
    done = subprocess.run([LAB / command, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def troubles(mark: int) -> list[tuple[str, str, str]]:
    """What Home Assistant complained of: of messages, of templates, of states."""
    wanted = ("homeassistant.components", "homeassistant.helpers")
    return [one for one in ha.log_errors(mark) if one[1].startswith(wanted)]


EXPECTED_OF_PORCH = {
    "binary_sensor.porch_degraded": "off",
    "binary_sensor.porch_driveway_camera": "on",
    "binary_sensor.porch_garden_camera": "on",
    "binary_sensor.porch_garden_any": "on",
    "button.porch_driveway_snapshot": None,
    "button.porch_garden_snapshot": None,
    "button.porch_reload": None,
    "binary_sensor.porch_driveway_cat": None,
    "binary_sensor.porch_driveway_coffee_cup": None,
    "event.porch_driveway_event": None,
    "event.porch_garden_event": None,
    "image.porch_driveway_last_detection": None,
    "image.porch_garden_last_detection": None,
    "number.porch_driveway_cat_threshold": "0.5",
    "number.porch_driveway_coffee_cup_threshold": "0.3",
    "number.porch_garden_any_threshold": "0.6",
    "sensor.porch_driveway_accelerator": "cpu",
    "sensor.porch_driveway_cat_count_today": None,
    "sensor.porch_driveway_cat_last_seen": None,
    "sensor.porch_driveway_coffee_cup_count_today": None,
    "sensor.porch_driveway_coffee_cup_last_seen": None,
    "sensor.porch_driveway_confidence": None,
    "sensor.porch_driveway_frames_per_second": None,
    "sensor.porch_driveway_inference_time": None,
    "sensor.porch_driveway_label": None,
    "sensor.porch_events_lost": "0",
    "sensor.porch_garden_accelerator": "cpu",
    "sensor.porch_garden_any_count_today": None,
    "sensor.porch_garden_any_last_seen": None,
    "sensor.porch_garden_confidence": None,
    "sensor.porch_garden_frames_per_second": None,
    "sensor.porch_garden_inference_time": None,
    "sensor.porch_garden_label": None,
    "sensor.porch_outbox_depth": None,
    "sensor.porch_software_version": None,
    "sensor.porch_uptime": None,
    "switch.porch_driveway_enabled": "on",
    "switch.porch_garden_enabled": "on",
}


def appears(device: Device) -> None:
    device.configure(CAT, CUP)
    device.start()
    wanted = set(EXPECTED_OF_PORCH) | ({"sensor.porch_temperature"} if HOST_TEMPERATURE else set())
    until(lambda: set(states()) >= wanted, f"missing {wanted - set(states())}")
    assert set(states()) == wanted, set(states()) ^ wanted
    until(lambda: ha.state("event.porch_driveway_event")["state"] != "unknown", "an event", 20)
    registered = ha.device("edge-classifierd_porch")
    assert (registered["name"], registered["manufacturer"]) == ("Porch", "edge-classifierd"), registered
    assert ha.state("binary_sensor.porch_driveway_coffee_cup")["attributes"]["friendly_name"] == (
        "Porch driveway coffee cup"
    )
    for entity, state in EXPECTED_OF_PORCH.items():
        if state is not None:
            ha.wait_for(entity, state)
    categories = {entity: entry["entity_category"] for entity, entry in ha.entities().items()}
    assert categories["sensor.porch_uptime"] == "diagnostic"
    assert categories["number.porch_driveway_cat_threshold"] == "config"
    assert categories["binary_sensor.porch_driveway_cat"] is None
    holds("the device is there with every entity in its state", len(wanted), "entities")


def turns_on_and_off() -> None:
    cat = "binary_sensor.porch_driveway_cat"
    for wanted, kind in (("on", "detected"), ("off", "cleared"), ("on", "detected")):
        ha.wait_for(cat, wanted, 15)
        event = ha.wait_for("event.porch_driveway_event", lambda s, k=kind: s["attributes"]["event_type"] == k)
        assert event["attributes"]["watch"] in {"cat", "coffee-cup"}, event
        assert event["attributes"]["seq"] > 0, event
    assert ha.state(cat)["attributes"]["device_class"] == "presence"
    before = int(ha.state("sensor.porch_driveway_cat_count_today")["state"])
    ha.wait_for("sensor.porch_driveway_cat_count_today", lambda s: int(s["state"]) > before, 20)
    kind, jpeg = ha.image("image.porch_driveway_last_detection")
    assert (kind, jpeg[:2]) == ("image/jpeg", b"\xff\xd8")
    label = ha.state("sensor.porch_driveway_label")
    assert label["attributes"]["top"][0]["label"] == label["state"], label
    holds("a watch turns on and off, is counted, and its events and its picture arrive")


def obeys(device: Device) -> None:
    ha.call("number.set_value", "number.porch_driveway_cat_threshold", value=0.95)
    ha.wait_for("number.porch_driveway_cat_threshold", "0.95")
    ha.call("switch.turn_off", "switch.porch_garden_enabled")
    ha.wait_for("switch.porch_garden_enabled", "off")
    ha.wait_for("binary_sensor.porch_garden_camera", "off")
    ha.wait_for("binary_sensor.porch_garden_any", "unavailable")
    before = ha.state("image.porch_driveway_last_detection")["state"]
    ha.call("button.press", "button.porch_driveway_snapshot")
    ha.wait_for("image.porch_driveway_last_detection", lambda s: s["state"] != before)
    ha.call("button.press", "button.porch_reload")
    until(lambda: "reloaded" in device.log.read_text(), "the reload")
    holds("number, switch and buttons command the device")
    device.stop()
    ha.wait_for("switch.porch_garden_enabled", "unavailable")
    lab("ha_down.sh", "--ha-only")
    lab("ha_up.sh", "--keep")
    ha.wait_for("switch.porch_garden_enabled", "unavailable")
    device.start()
    ha.wait_for("switch.porch_garden_enabled", "off")
    ha.wait_for("number.porch_driveway_cat_threshold", "0.95")
    ha.wait_for("binary_sensor.porch_driveway_cat", "off")
    holds("threshold and switch are still what they were after both restarted")
    ha.call("switch.turn_on", "switch.porch_garden_enabled")
    ha.call("number.set_value", "number.porch_driveway_cat_threshold", value=0.5)
    ha.wait_for("number.porch_driveway_cat_threshold", "0.5")
    ha.wait_for("binary_sensor.porch_driveway_cat", "on", 15)
    nothing_unknown()
    holds("and can be turned back")


def survives(device: Device) -> None:
    for how, flags in (("stopped", ()), ("killed", ("--kill",))):
        lab("ha_down.sh", "--ha-only", *flags)
        lab("ha_up.sh", "--keep")
        nothing_unknown()
        ha.wait_for("binary_sensor.porch_driveway_cat", "on", 15)
        holds(f"Home Assistant {how} and started: every state is back")
    lab("ha_down.sh", "--broker-only")
    ha.wait_for("binary_sensor.porch_driveway_cat", "unavailable")
    lab("ha_up.sh", "--keep")
    ha.wait_for("binary_sensor.porch_driveway_cat", lambda s: s["state"] != "unavailable", 60)
    nothing_unknown()
    holds("the broker restarted: every state is back")
    device.stop(signal.SIGKILL)
    ha.wait_for("binary_sensor.porch_driveway_cat", "unavailable")
    ha.wait_for("sensor.porch_uptime", "unavailable")
    device.start()
    nothing_unknown()
    ha.wait_for("binary_sensor.porch_driveway_cat", "on", 15)
    holds("the daemon killed and started: every state is back")


def forgets(device: Device) -> None:
    device.configure(CAT)
    device.reload()
    ha.wait_gone("binary_sensor.porch_driveway_coffee_cup")
    gone = [entity for entity in ha.entities() if "coffee" in entity]
    assert gone == [], gone
    nothing_unknown()
    holds("a watch that a reload removes disappears")
    device.stop()
    lab("ha_down.sh", "--ha-only")
    device.configure(CAT, garden=False)
    device.start()
    time.sleep(3)
    lab("ha_up.sh", "--keep")
    until(lambda: not [entity for entity in ha.entities() if "garden" in entity], "the garden's ghosts", 20)
    nothing_unknown()
    until(lambda: not ha.subscribe_once("edge-classifierd/porch/garden/#", 1), "the garden's retained topics", 20)
    holds("a pipeline removed while Home Assistant was down leaves no ghost, and no topic either")
    device.configure(CAT, CUP, garden=False, home_assistant={"discovery": "component"})
    device.stop()
    device.start()
    ha.wait_for("binary_sensor.porch_driveway_coffee_cup", timeout=20)
    nothing_unknown()
    assert len(ha.device_entities("edge-classifierd_porch")) == len(states())
    device.configure(CAT, garden=False, home_assistant={"discovery": "component"})
    device.reload()
    ha.wait_gone("number.porch_driveway_coffee_cup_threshold")
    nothing_unknown()
    holds("discovery by component announces, replaces the other kind, and removes")
    device.stop()
    device.configure(CAT, device="gate", name="Gate", garden=False)
    device.start()
    ha.wait_for("binary_sensor.gate_driveway_cat", timeout=20)
    until(lambda: ha.device("edge-classifierd_porch") is None, "the former device", 20)
    until(lambda: not ha.subscribe_once("edge-classifierd/porch/#", 1), "the former retained topics", 20)
    nothing_unknown("gate")
    holds("a changed device id leaves neither a device nor a topic behind")
    device.configure(CAT, device="gate", name="Front gate", garden=False)
    device.stop()
    device.start()
    until(lambda: ha.device("edge-classifierd_gate")["name"] == "Front gate", "the new name")
    assert "binary_sensor.gate_driveway_cat" in ha.entities()
    nothing_unknown("gate")
    holds("a changed name keeps the entities")
    for new, running in (("gate2", True), ("gate3", False)):
        before = set(ha.entities())
        device.stop()
        if not running:
            lab("ha_down.sh", "--ha-only")
        device.configure(CAT, device=new, name="Front gate", garden=False)
        device.start()
        if not running:
            time.sleep(20)
            lab("ha_up.sh", "--keep")
        until(lambda new=new: ha.device(f"edge-classifierd_{new}") is not None, "the device with its new id", 40)
        until(lambda before=before: not set(ha.entities()) - expected_ids(before), "no other entity", 10)
        nothing_unknown(new)
        assert not [entity for entity in ha.entities() if entity.endswith("_2")], ha.entities()
        holds(f"a changed id with the same name makes no ids with _2; Home Assistant running: {running}")


def expected_ids(before: set[str]) -> set[str]:
    """Return the ids before, and those that the name gives to a device that is announced anew."""
    return before | {f"{entity.split('.')[0]}.front_{entity.split('.')[1]}" for entity in before}


def purged(device: Device) -> None:
    refused = subprocess.run(
        device.command("discovery", "purge"),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env=device.environment,
    )
    assert (refused.returncode, "is online" in refused.stderr) == (1, True), refused
    device.stop()
    done = subprocess.run(
        device.command("discovery", "purge", "--json"),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env=device.environment,
    )
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["purged"] == ["homeassistant/device/edge-classifierd_gate3/config"], done
    until(lambda: ha.device("edge-classifierd_gate3") is None, "the purged device")
    holds("`discovery purge` removes the device, and refuses while it is online")


def accepts_the_recipes() -> None:
    recipes = ROOT / "docs" / "recipes"
    for automation in yaml.safe_load((recipes / "home-assistant-automations.yaml").read_text()):
        answer = ha.request(f"/api/config/automation/config/{automation.pop('id')}", automation)
        assert answer == {"result": "ok"}, answer
    text = (recipes / "home-assistant-blueprint.yaml").read_text()
    saved = {"type": "blueprint/save", "domain": "automation", "path": "edge/notify.yaml", "yaml": text}
    ha.ws(saved | {"allow_override": True})
    (blueprints,) = ha.ws({"type": "blueprint/list", "domain": "automation"})
    assert "metadata" in blueprints["edge/notify.yaml"], blueprints
    holds("the automations and the blueprint of docs/recipes are accepted")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="edge-classifierd-") as folder:
        device = Device(Path(folder))
        mark = ha.log_mark()
        try:
            appears(device)
            turns_on_and_off()
            accepts_the_recipes()
            obeys(device)
            survives(device)
            forgets(device)
            purged(device)
        except BaseException:
            print(device.log.read_text(), file=sys.stderr)
            raise
        finally:
            if device.process is not None:
                device.stop(signal.SIGKILL)
        assert troubles(mark) == [], troubles(mark)
        holds("no warning and no error of the MQTT integration in Home Assistant's log")
    print(f"{count} passed, 0 failed")


main()
