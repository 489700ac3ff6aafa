"""Models of running pipelines are changed by command, and when another version is put in use."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import TYPE_CHECKING

import pytest
from pipelines_scene import Scene, pipeline, until
from taught_versions import add_version

from edge_classifierd.config.loading.load import load
from edge_classifierd.daemon.model_rollouts import ModelRollouts
from edge_classifierd.daemon.model_switches import ModelSwitches
from edge_classifierd.mqtt.commands import SetModel, SetThreshold
from edge_classifierd.pipeline.pipeline import Pipeline
from edge_classifierd.pipeline.planning.plan import Plan

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.pipeline.observation.control import CommandOutcome


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_CLASSIFIERD_STATE", str(tmp_path))
    return tmp_path


class Switching:
    """A scene whose model switches are ticked as the service does it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        document = load(scene.folder / "config.yaml")
        rollouts = ModelRollouts(scene.folder, scene.clock)
        self.switches = ModelSwitches(scene.pipelines, scene.saved_state, scene.trials, rollouts, document)
        self.announced = 0

    def tick(self) -> None:
        self.scene.pipelines.tick()
        self.announced += self.switches.tick()
        self.scene.pipelines.store_commands(at_once=True)

    def until(self, condition: object) -> None:
        def done() -> object:
            self.tick()
            return condition()  # type: ignore[operator]

        until(done)

    def command(self, name: str | None) -> CommandOutcome:
        future: Future[CommandOutcome] = Future()
        self.switches.request(SetModel("driveway", name), future)
        self.until(future.done)
        self.tick()
        return future.result()

    def model(self) -> str:
        plan = self.scene.pipelines.plans[0]
        assert isinstance(plan, Plan)
        return plan.bundle.name

    def online(self) -> bool:
        return self.scene.retained("driveway").get("status") == b"online"


def classified(scene: Scene) -> int:
    return scene.pipelines.pipelines[0].metrics.snapshot().inferences


def test_a_commanded_model_runs_is_published_and_taken_back(state: Path) -> None:
    add_version(state, "birds", 1).use("birds", 1)
    with Scene(state, pipeline("driveway", "cat"), pipeline("garden", "dog")) as scene:
        switching = Switching(scene)
        other = scene.pipelines.pipelines[1]
        assert switching.command("birds").problems == ()
        assert switching.model() == "birds-1"
        assert isinstance(scene.pipelines.pipelines[0], Pipeline), "it was tried before the other one stopped"
        assert scene.pipelines.watches == {"driveway": {"blue-tit", "robin"}, "garden": {"dog"}}
        switching.until(switching.online)
        retained = scene.retained("driveway")
        assert (retained["model"], retained["blue-tit/threshold"]) == (b"birds", b"0.7")
        scene.remove_topics()
        assert not any(topic.startswith("cat/") for topic in scene.retained("driveway"))
        assert scene.saved_state.models() == {"driveway": "birds"}
        assert scene.pipelines.pipelines[1] is other, "only the pipeline of the command is changed"
        switching.command(None)
        assert switching.model() == "efficientnet_lite0_int8"
        assert scene.retained("driveway")["model"] == b"efficientnet_lite0_int8"
        assert scene.pipelines.watches["driveway"] == {"cat"}
        assert scene.saved_state.models() == {}
        assert switching.announced == 2


def test_a_model_that_cannot_be_used_is_refused_and_the_pipeline_goes_on(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Scene(state, pipeline("driveway", "cat")) as scene:
        switching, running = Switching(scene), scene.pipelines.pipelines[0]
        caplog.set_level(logging.WARNING)
        (problem,) = switching.command("birds").problems
        assert "taught model birds: there is no such model" in problem
        assert caplog.messages == [f"driveway: the model birds is refused: {problem}"]
        assert scene.pipelines.pipelines[0] is running
        assert scene.saved_state.models() == {}
        add_version(state, "birds", 1).use("birds", 1).file.write_bytes(b"damaged")
        assert "is not a TensorFlow Lite model" in switching.command("birds").problems[0]
        assert scene.pipelines.pipelines[0] is running


def test_another_version_is_taken_over_without_a_command(state: Path) -> None:
    add_version(state, "birds", 1)
    versions = add_version(state, "birds", 2, threshold=0.8)
    versions.use("birds", 1)
    with Scene(state, pipeline("driveway", model={"taught": "birds", "threads": 1})) as scene:
        switching = Switching(scene)
        switching.until(lambda: not switching.switches.busy)
        first = scene.pipelines.pipelines[0]
        assert switching.model() == "birds-1"
        assert not switching.announced
        scene.execute(SetThreshold("driveway", "robin", 0.9))
        versions.use("birds", 2)
        switching.until(lambda: switching.model() == "birds-2")
        assert scene.pipelines.pipelines[0] is not first
        retained = scene.retained("driveway")
        assert retained["blue-tit/threshold"] == b"0.8"
        assert retained["robin/threshold"] == b"0.9", "a threshold set by hand survives"
        versions.rollback("birds")
        switching.until(lambda: switching.model() == "birds-1")
        assert scene.retained("driveway")["blue-tit/threshold"] == b"0.7"
        assert switching.announced == 2


@pytest.mark.parametrize("shared", [False, True])
def test_a_switch_leaves_the_camera_open(state: Path, shared: bool) -> None:
    add_version(state, "birds", 1).use("birds", 1)
    driveway = pipeline("driveway", "cat")
    if shared:
        driveway |= {"camera": "driveway"}
        del driveway["source"]
    with Scene(state, driveway, cameras=("driveway",) if shared else ()) as scene:
        switching = Switching(scene)
        switching.until(switching.online)
        scene.broker.sent.clear()
        for model in ("birds", None):
            first = classified(scene)
            assert switching.command(model).problems == ()
            switching.until(lambda before=first: classified(scene) > before + 3)  # type: ignore[misc]
        (camera,) = scene.cameras
        assert (camera.opened, camera.closed) == (1, 0)
        statuses = [payload for topic, payload in scene.broker.sent if topic.endswith("/driveway/status")]
        assert b"offline" not in statuses
        assert switching.announced == 2
    assert camera.closed == 1, "no capture of a replaced pipeline holds it"


def test_a_camera_that_a_command_has_closed_stays_closed_after_a_switch(state: Path) -> None:
    add_version(state, "birds", 1).use("birds", 1)
    with Scene(state, pipeline("driveway", "cat")) as scene:
        switching = Switching(scene)
        first = scene.pipelines.pipelines[0]
        scene.saved_state.set_enabled("driveway", enabled=False)
        switching.command("birds")
        assert scene.pipelines.pipelines[0] is not first
        (camera,) = scene.cameras
        switching.until(lambda: camera.closed)
        assert camera.opened == 1


def test_a_damaged_version_leaves_the_loaded_one_running(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    add_version(state, "birds", 1)
    versions = add_version(state, "birds", 2)
    versions.use("birds", 1)
    with Scene(state, pipeline("driveway", model={"taught": "birds", "threads": 1})) as scene:
        switching = Switching(scene)
        switching.until(lambda: not switching.switches.busy)
        running = scene.pipelines.pipelines[0]
        versions.use("birds", 2).file.write_bytes(b"damaged")
        switching.until(lambda: "continues with the loaded model" in caplog.text)
        assert scene.pipelines.pipelines[0] is running


def test_the_commanded_model_can_be_taken_back_although_it_is_gone(state: Path) -> None:
    with Scene(state, pipeline("driveway", "cat")) as scene:
        scene.saved_state.set_model("driveway", "gone")
        assert Switching(scene).command(None).problems == ()
        assert scene.saved_state.models() == {}


def test_a_pipeline_that_a_reload_has_removed_is_refused(state: Path) -> None:
    with Scene(state, pipeline("driveway", "cat")) as scene:
        switching = Switching(scene)
        scene.change_to(pipeline("garden", "cat"))
        switching.switches.document = load(state / "config.yaml")
        assert switching.command("birds").problems == ("there is no pipeline driveway any more",)
