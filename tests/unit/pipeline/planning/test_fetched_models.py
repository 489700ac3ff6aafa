"""Planning with a model of an address: before it is here, when it is here, and with one that ran before."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import tflite_builder as tflite

from edge_classifierd.config.loading.load import load
from edge_classifierd.errors import ConfigurationError
from edge_classifierd.model.store import RemoteModel
from edge_classifierd.pipeline.planning.plan import BlockedPlan, Plan
from edge_classifierd.pipeline.planning.validation import examine, plan_one_pipeline, plan_pipelines, prepare

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://models.example.org/birds-3.tflite?token=hush-hush"


def model_file(labels: str) -> bytes:
    return tflite.pack(tflite.classifier(tflite.SOFTMAX), files={"labels.txt": labels.encode()})


BIRDS, FISH = model_file("tit\nrobin\nnone\n"), model_file("cod\neel\nnone\n")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_CLASSIFIERD_STATE", str(tmp_path))
    (tmp_path / "fetched").mkdir()
    return tmp_path


def put(state: Path, content: bytes) -> RemoteModel:
    sha256 = hashlib.sha256(content).hexdigest()
    (state / "fetched" / f"{sha256}.tflite").write_bytes(content)
    return RemoteModel(URL, sha256)


def config(state: Path, sha256: str, *labels: str) -> Path:
    file = state / "config.yaml"
    watches = ", ".join(f"{{name: {label}, labels: [{label}]}}" for label in labels)
    model = f'{{url: "{URL}", sha256: "{sha256}"}}'
    file.write_text(
        f"pipelines: [{{name: a, source: {{type: v4l2}}, model: {model}, watches: [{watches}]}}]", encoding="utf-8"
    )
    return file


def test_a_model_that_is_not_here_is_awaited_by_the_daemon_and_refused_by_commands(state: Path) -> None:
    file = config(state, "ab" * 32, "tit")
    _, (plan,), (problem,) = examine(file)
    assert isinstance(plan, BlockedPlan)
    assert (problem.temporary, problem.awaited, problem.key) == (True, True, "pipelines[0].model.url")
    assert "models.example.org/birds-3.tflite: is not on this device yet" in plan.reason
    assert "hush" not in plan.reason
    plan_pipelines(file)
    with pytest.raises(ConfigurationError, match="is not on this device yet"):
        prepare(file)


def test_a_model_that_is_here_has_the_name_of_its_address(state: Path) -> None:
    model = put(state, BIRDS)
    _, (plan,), problems = examine(config(state, model.sha256, "tit"))
    assert isinstance(plan, Plan)
    assert (plan.bundle.name, plan.bundle.sha256, problems) == ("birds-3", model.sha256, ())


def test_a_damaged_file_is_awaited(state: Path) -> None:
    model = put(state, BIRDS)
    (state / "fetched" / f"{model.sha256}.tflite").write_bytes(FISH)
    _, (plan,), (problem,) = examine(config(state, model.sha256, "tit"))
    assert isinstance(plan, BlockedPlan)
    assert (problem.temporary, problem.awaited) == (True, True)
    assert "is damaged; the daemon fetches it again" in plan.reason


def test_foreign_labels_in_the_file_do_not_make_the_configuration_wrong(state: Path) -> None:
    """The daemon would not start any more, because of a file on a server."""
    model = put(state, FISH)
    _, (plan,), (problem,) = examine(config(state, model.sha256, "tit"))
    assert isinstance(plan, BlockedPlan)
    assert (problem.temporary, problem.awaited) == (True, False)
    assert "'tit' matches none" in plan.reason


def test_a_model_that_ran_before_runs_with_the_watches_that_it_has(state: Path) -> None:
    earlier = put(state, FISH)
    document = load(config(state, "ab" * 32, "tit", "eel"))
    plan = plan_one_pipeline(document, "a", earlier)
    assert isinstance(plan, Plan)
    assert [rule.name for rule in plan.rules] == ["eel"]
    plan = plan_one_pipeline(load(config(state, "ab" * 32, "tit")), "a", earlier)
    assert isinstance(plan, BlockedPlan)
    assert "has the labels of none of the watches" in plan.reason


def test_check_warns_of_a_model_that_is_not_here(state: Path) -> None:
    command = [sys.executable, "-m", "edge_classifierd", "check", "--config", str(config(state, "ab" * 32, "tit"))]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "warning: " in done.stderr
    assert "pipelines[0].model.url: https://models.example.org/birds-3.tflite: is not on this device" in done.stderr
    assert done.stdout.endswith("config.yaml: ok\n")
