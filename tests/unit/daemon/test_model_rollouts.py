"""Models from addresses are rolled out into running pipelines, with a real server and real classifiers."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

import pytest
import tflite_builder as tflite
from model_server import ModelServer
from pipelines_scene import Scene, pipeline, until

from edge_classifierd.config.loading.load import load
from edge_classifierd.daemon.model_rollouts import ModelRollouts
from edge_classifierd.daemon.model_switches import ModelSwitches
from edge_classifierd.daemon.pipelines import Pipelines
from edge_classifierd.pipeline.pipeline import Pipeline
from edge_classifierd.pipeline.planning.plan import Plan
from edge_classifierd.pipeline.planning.validation import plan_pipelines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_classifierd.clock import Clock


def model_file(about: str, labels: tuple[str, ...] = ("cat", "dog", "fox")) -> bytes:
    listed = "".join(f"{label}\n" for label in labels).encode()
    return tflite.pack(tflite.classifier(tflite.SOFTMAX), files={"labels.txt": listed, "about.txt": about.encode()})


OLD, NEW = model_file("old"), model_file("new")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class LaterClock:
    """The scene's clock, which a test can put forward."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return self._clock.monotonic() + self.ahead_s


class Device:
    """A device that is configured with models of a server; the daemon's parts for models are those of `scene`."""

    def __init__(self, state: Path, server: ModelServer) -> None:
        self.state = state
        self.server = server
        self.scene: Scene | None = None

    def section(self, content: bytes, *watches: str, path: str = "/birds.tflite") -> dict[str, Any]:
        listed = [{"name": watch, "labels": [watch], "threshold": 0.99} for watch in watches or ("cat",)]
        model = {"url": self.server.url + path, "sha256": sha256(content), "threads": 1}
        return {**pipeline("driveway"), "model": model, "watches": listed}

    def start(self, *sections: dict[str, Any]) -> Scene:
        """Start the daemon's parts as after a start of the process."""
        scene = self.scene = Scene(self.state, pipeline("garden"))
        self.clock = LaterClock(scene.clock)
        self.rollouts = ModelRollouts(self.state, self.clock)  # type: ignore[arg-type] # it uses this one method
        scene.plans(*sections)
        document, configured = plan_pipelines(self.state / "config.yaml")
        plans = self.rollouts.plans(document, configured, {})
        scene.pipelines = Pipelines(plans, scene.around, scene.sink, scene.trials)
        self.switches = ModelSwitches(scene.pipelines, scene.saved_state, scene.trials, self.rollouts, document)
        scene.pipelines.start()
        return scene

    def reload(self, *sections: dict[str, Any]) -> None:
        assert self.scene is not None
        configured = self.scene.plans(*sections)
        document = load(self.state / "config.yaml")
        pipelines = self.scene.pipelines
        pipelines.change_to(self.rollouts.plans(document, configured, {}, pipelines.plans))
        self.switches.document = document

    def stop(self) -> None:
        assert self.scene is not None
        self.rollouts.stop(5.0)
        self.scene.__exit__()

    def tick(self) -> None:
        assert self.scene is not None
        self.scene.pipelines.tick()
        self.switches.tick()

    def until(self, condition: Any) -> None:
        def done() -> object:
            self.tick()
            return condition()

        until(done)

    @property
    def pipeline(self) -> Any:
        assert self.scene is not None
        return self.scene.pipelines.pipelines[0]

    def runs(self, content: bytes) -> bool:
        one = self.pipeline
        return isinstance(one, Pipeline) and isinstance(one.plan, Plan) and one.plan.bundle.sha256 == sha256(content)

    def reasons(self) -> dict[str, str]:
        return {reason.flag: reason.sentence for reason in self.pipeline.metrics.snapshot().reasons}

    def files(self) -> set[str]:
        return {file.name for file in (self.state / "fetched").glob("*.tflite")}


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as made:
        made.files["/birds.tflite"] = OLD
        yield made


@pytest.fixture
def device(tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    monkeypatch.setenv("EDGE_CLASSIFIERD_STATE", str(tmp_path))
    made = Device(tmp_path, server)
    yield made
    if made.scene is not None:
        made.stop()


def test_a_first_start_waits_with_a_reason_while_the_other_pipelines_run(device: Device, server: ModelServer) -> None:
    server.fault = "error"
    scene = device.start(device.section(OLD), pipeline("garden", "cat"))
    device.until(lambda: "model_fetch_failed" in device.reasons() and scene.pipelines.pipelines[1].online)
    device.until(lambda: device.pipeline.offline_reason)
    assert device.pipeline.offline_reason.endswith("birds.tflite: is not on this device yet; the daemon fetches it")
    assert "the server answers 503" in device.reasons()["model_fetch_failed"]
    server.fault = ""
    assert device.pipeline.metrics.wanted_model == ("birds", sha256(OLD))
    device.clock.ahead_s = 10
    device.until(lambda: device.runs(OLD))
    device.until(lambda: device.reasons() == {})
    assert device.pipeline.metrics.wanted_model is None
    assert device.pipeline.plan.bundle.name == "birds"
    assert scene.retained("driveway")["model"] == b"birds"


def test_a_reload_rolls_the_new_model_out_and_the_old_one_runs_until_then(device: Device, server: ModelServer) -> None:
    scene = device.start(device.section(OLD))
    device.until(lambda: device.runs(OLD))
    device.until(lambda: device.pipeline.online)
    before = device.pipeline
    server.files["/birds-2.tflite"] = NEW
    server.fault = "drip"
    device.reload(device.section(NEW, "cat", "dog", path="/birds-2.tflite"))
    device.until(lambda: any(path == "/birds-2.tflite" for path, _ in server.requested))
    assert device.pipeline is before
    assert scene.pipelines.watches == {"driveway": {"cat", "dog"}}, "the rest of the configuration applies at once"
    assert device.pipeline.metrics.wanted_model == ("birds-2", sha256(NEW))
    device.rollouts.stop(5.0)  # the drip would last
    server.fault = ""
    device.until(lambda: "model_fetch_failed" in device.reasons())
    assert device.reasons()["model_fetch_failed"].endswith(f"birds ({sha256(OLD)[:8]}) runs meanwhile")
    device.clock.ahead_s = 10
    device.until(lambda: device.runs(NEW))
    device.until(lambda: device.reasons() == {})
    assert device.files() == {f"{sha256(content)}.tflite" for content in (OLD, NEW)}


@pytest.mark.parametrize(
    ("content", "flag", "words"),
    [
        (b"not the file", "model_fetch_failed", "has the SHA-256"),
        (b"no model", "model_refused", "is not a TensorFlow Lite model"),
        (tflite.pack(tflite.custom("Odd"), files={"labels.txt": b"cat\ndog\nfox\n"}), "model_refused", "Odd"),
        (model_file("other labels", ("x", "y", "z")), "model_refused", "'cat' matches none"),
    ],
)
def test_a_model_that_cannot_be_used_leaves_the_old_one_also_after_a_restart(
    device: Device, server: ModelServer, content: bytes, flag: str, words: str
) -> None:
    device.start(device.section(OLD))
    device.until(lambda: device.runs(OLD))
    device.until(lambda: device.pipeline.online)
    running = device.pipeline
    server.files["/birds.tflite"] = content
    wanted = NEW if content == b"not the file" else content
    device.reload(device.section(wanted))
    device.until(lambda: flag in device.reasons())
    assert words in device.reasons()[flag]
    assert device.pipeline is running
    asked = len(server.requested)
    for _ in range(20):
        device.tick()
    assert len(server.requested) == asked, "a refusal is not repeated at once"
    device.stop()
    device.start(device.section(wanted))
    device.until(lambda: flag in device.reasons() and device.runs(OLD))


def test_a_restart_without_the_server_runs_the_last_good_model(device: Device, server: ModelServer) -> None:
    device.start(device.section(OLD))
    device.until(lambda: device.runs(OLD))
    device.tick()
    device.stop()
    server.fault = "error"
    device.start(device.section(NEW, "cat", "bear"))
    assert device.runs(OLD)
    assert device.pipeline.plan.section.watches[0].name == "cat"
    assert len(device.pipeline.plan.rules) == 1, "the watch `bear` waits for the model that has this label"
    device.until(lambda: "model_fetch_failed" in device.reasons())
    device.stop()
    device.start(device.section(NEW, "bear"))
    device.until(lambda: device.pipeline.offline_reason)
    assert "is not on this device yet" in device.pipeline.offline_reason


def test_a_configured_file_runs_until_the_first_model_of_an_address_is_here(
    device: Device, server: ModelServer
) -> None:
    server.fault = "error"
    device.start(pipeline("driveway", "cat"))
    device.until(lambda: device.pipeline.online)
    running = device.pipeline
    device.reload(device.section(OLD))
    device.until(lambda: "model_fetch_failed" in device.reasons())
    assert device.pipeline is running
    assert "efficientnet_lite0_int8" in device.reasons()["model_fetch_failed"]
    server.fault = ""
    device.reload(device.section(OLD))  # a reload begins at once
    device.until(lambda: device.runs(OLD))


def test_a_fetched_model_that_had_not_run_before_the_power_failed_is_tried_after_the_last_good_one_runs(
    device: Device, server: ModelServer
) -> None:
    device.start(device.section(OLD))
    device.until(lambda: device.runs(OLD))
    device.tick()
    device.stop()
    (device.state / "fetched" / f"{sha256(NEW)}.tflite").write_bytes(NEW)
    device.start(device.section(NEW))
    assert device.runs(OLD)
    device.until(lambda: device.runs(NEW))
    assert [path for path, _ in server.requested] == ["/birds.tflite"]


def test_two_pipelines_share_one_fetch_and_the_way_back_needs_no_server(device: Device, server: ModelServer) -> None:
    def both(content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        return device.section(content), {**pipeline("garden"), "model": device.section(content)["model"]}

    scene = device.start(*both(OLD))
    device.until(lambda: all(isinstance(one, Pipeline) for one in scene.pipelines.pipelines))
    device.tick()
    assert len(server.requested) == 1
    server.files["/birds.tflite"] = NEW
    device.reload(*both(NEW))
    device.until(lambda: device.runs(NEW) and scene.pipelines.pipelines[1].metrics.wanted_model is None)
    device.tick()
    server.fault = "error"
    device.reload(*both(OLD))
    device.until(lambda: device.runs(OLD))
    assert len(server.requested) == 2


def test_a_model_that_does_not_run_after_the_switch_gives_way_to_the_last_good_one(
    device: Device, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = device.start(device.section(OLD))
    device.until(lambda: device.runs(OLD))
    device.tick()
    server.files["/birds.tflite"] = NEW
    get = scene.pipelines._classifiers.get

    def fails(plan: Plan) -> Any:
        if plan.bundle.sha256 == sha256(NEW):
            raise MemoryError
        return get(plan)

    monkeypatch.setattr(scene.pipelines._classifiers, "get", fails)
    device.reload(device.section(NEW))
    device.until(lambda: not isinstance(device.pipeline, Pipeline))
    device.clock.ahead_s = 61
    device.until(lambda: device.runs(OLD))
    assert "cannot be used" in device.reasons()["model_refused"]


def test_models_that_were_refused_do_not_pile_up(device: Device, server: ModelServer) -> None:
    device.start(device.section(OLD))
    device.until(lambda: device.runs(OLD))
    refused = [b"no model at all", b"nor this"]
    for content in refused:
        server.files["/birds.tflite"] = content
        device.reload(device.section(content))
        device.until(lambda: "model_refused" in device.reasons())
        device.pipeline.metrics.recover("model_refused")
    device.until(lambda: device.files() == {f"{sha256(content)}.tflite" for content in (OLD, refused[-1])})


def test_what_is_not_wanted_any_more_is_cancelled_and_removed(
    device: Device, server: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    device.start(device.section(OLD))
    device.until(lambda: device.runs(OLD))
    server.fault = "drip"
    device.reload(device.section(NEW))
    device.until(lambda: len(server.requested) == 2)
    device.reload(pipeline("driveway", "cat"))
    device.until(lambda: device.pipeline.online and not device.files())
    device.until(lambda: not list((device.state / "fetched").glob(".*.part")))
    assert device.reasons() == {}
    assert device.pipeline.metrics.wanted_model is None
