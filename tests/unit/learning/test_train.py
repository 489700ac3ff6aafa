from __future__ import annotations

import dataclasses
import json
import logging
import shlex
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from drawn_pictures import SHAPES, drawn, folders, write
from typer import Typer
from typer.testing import CliRunner

from edge_classifierd.cli import classify as classify_command
from edge_classifierd.cli import evaluate as eval_command
from edge_classifierd.cli import train as train_command
from edge_classifierd.errors import MissingError, ModelError, UsageError
from edge_classifierd.frames.image import read_image
from edge_classifierd.inference.edgetpu.cpu_fallback import check_cpu_model
from edge_classifierd.inference.edgetpu.delegate import check_compiled
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.inference.runtime import find_runtime
from edge_classifierd.learning.dataset import read_dataset, write_table
from edge_classifierd.learning.embeddings.embed import computable, load_extractor
from edge_classifierd.learning.learnt_pictures import learnt_by
from edge_classifierd.learning.predict import Trial, try_out
from edge_classifierd.learning.train import Training, TrainingPlan, train
from edge_classifierd.learning.training_set import UNKNOWN
from edge_classifierd.model.bundle import bundled_model_path, load_bundle
from edge_classifierd.model.tflite.graph import read_graph
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from pathlib import Path

app = Typer()
app.command("classify")(classify_command.command)
app.command("eval")(eval_command.command)
app.command("train")(train_command.command)


def command(*arguments: object) -> Any:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        return CliRunner().invoke(app, [str(one) for one in arguments])
    finally:  # the command logs to a stream that is closed by now
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders(tmp_path_factory.mktemp("pictures"), 14)


@pytest.fixture(scope="module")
def plan(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingPlan:
    output = tmp_path_factory.mktemp("taught") / "shapes.tflite"
    return TrainingPlan(pictures, bundled_model_path(), output, seed=1, holdout=0.5)


@pytest.fixture(scope="module")
def taught(plan: TrainingPlan) -> Training:
    return train(plan)


def test_shapes_are_learnt_and_measured_on_pictures_that_were_not_learnt_from(taught: Training) -> None:
    assert taught.evaluation is not None
    assert taught.evaluation.top1 >= 0.9
    assert (len(taught.learnt), len(taught.held_out)) == (21, 21)
    assert taught.labels == (*sorted(SHAPES), UNKNOWN)
    assert taught.agreement < 1e-5


def test_the_file_is_an_ordinary_classifier_that_eval_measures_alike(taught: Training, tmp_path: Path) -> None:
    bundle = load_bundle(taught.output)
    assert bundle.labels.names == taught.labels
    assert bundle.output_kind == "softmax"
    assert bundle.metadata.licence == load_bundle(bundled_model_path()).metadata.licence
    write_table(tmp_path / "held.csv", taught.held_out)
    again = try_out(Trial(bundle), read_dataset(tmp_path / "held.csv"), lambda _done, _of: None)
    assert taught.evaluation is not None
    assert again.top1 == taught.evaluation.top1
    assert again.per_class == taught.evaluation.per_class
    assert again.calibration_error == pytest.approx(taught.evaluation.calibration_error, abs=1e-4)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_split(
    plan: TrainingPlan, taught: Training, tmp_path: Path
) -> None:
    again = train(dataclasses.replace(plan, output=tmp_path / plan.output.name))
    assert again.output.read_bytes() == taught.output.read_bytes()
    other = train(dataclasses.replace(plan, output=tmp_path / plan.output.name, seed=2))
    assert other.held_out != taught.held_out


def test_new_classes_stand_beside_the_old_ones_which_rank_as_before(
    pictures: Path, repository: Path, tmp_path: Path
) -> None:
    source = tmp_path / "new"
    for shape in ("stripes", "cross"):
        for number in range(6):
            (source / f"drawn {shape}").mkdir(parents=True, exist_ok=True)
            shutil.copy(pictures / shape / f"{number}.jpg", source / f"drawn {shape}")
    output = tmp_path / "more.tflite"
    plan = TrainingPlan(source, bundled_model_path(), output, holdout=0.5, method="imprinting", keep_classes=True)
    training = train(plan)
    assert training.evaluation is not None
    assert training.evaluation.top1 >= 0.8
    old, new = load_bundle(bundled_model_path()), load_bundle(output)
    assert new.labels.names == (*old.labels.names, "drawn cross", "drawn stripes")
    for name in ("cat", "coffee", "rocket"):
        frame = read_image(repository / f"edge_classifierd/demo_photos/{name}.jpg")
        best = []
        for bundle in (old, new):
            classifier = make_classifier(bundle, "cpu", 1)
            tensor = Preprocessor(bundle.input, bundle.normalisation)(frame)
            best.append(int(classifier.classify(tensor).confidences.argmax()))
        assert best[0] == best[1]


def test_background_pictures_become_the_class_unknown(pictures: Path, tmp_path: Path) -> None:
    source, background = tmp_path / "one", tmp_path / "background"
    shutil.copytree(pictures / "disc", source / "disc")
    shutil.copytree(pictures / "stripes", background)
    training = train(TrainingPlan(source, bundled_model_path(), tmp_path / "m.tflite", unknown=background, augment=0))
    assert training.labels == ("disc", UNKNOWN)
    assert training.evaluation is not None
    assert training.evaluation.top1 >= 0.8


def test_data_that_cannot_be_learnt_from_is_refused_with_the_remedy(pictures: Path, tmp_path: Path) -> None:
    one = tmp_path / "one"
    shutil.copytree(pictures / "disc", one / "disc")
    plan = TrainingPlan(one, bundled_model_path(), tmp_path / "m.tflite")
    with pytest.raises(UsageError, match=r"holds one class, `disc`.*--unknown"):
        train(plan)
    (one / "cross").mkdir()
    shutil.copy(pictures / "cross" / "0.jpg", one / "cross")
    (one / "cross" / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    expected = r"`cross` has 1 readable picture \(1 picture could not be read\); at least 2"
    with pytest.raises(UsageError, match=expected):
        train(plan)
    with pytest.raises(UsageError, match="--keep-classes needs --method imprinting"):
        train(dataclasses.replace(plan, keep_classes=True))
    (one / "goldfish").mkdir()
    shutil.copy(pictures / "cross" / "1.jpg", one / "goldfish")
    labels = load_bundle(bundled_model_path()).labels.names
    (one / "goldfish").rename(one / labels[1].replace("/", " "))
    with pytest.raises(UsageError, match="the model already has a class"):
        train(dataclasses.replace(plan, keep_classes=True, method="imprinting"))
    assert not plan.output.exists()


def test_copies_and_broken_files_are_reported_and_copies_stay_on_one_side(pictures: Path, tmp_path: Path) -> None:
    source = tmp_path / "set"
    for shape in ("disc", "cross"):
        shutil.copytree(pictures / shape, source / shape)
        for number in range(4):
            shutil.copy(source / shape / f"{number}.jpg", source / shape / f"copy of {number}.jpg")
    write(source / "disc" / "stray.jpg", drawn("cross", 9))
    (source / "cross" / "empty.jpg").write_bytes(b"")
    training = train(TrainingPlan(source, bundled_model_path(), tmp_path / "m.tflite", holdout=0.5, augment=0, seed=3))
    assert len(training.unreadable) == 1
    assert "empty.jpg" in training.unreadable[0]
    assert any("near-duplicates: 9 pictures (" in warning for warning in training.warnings)
    assert any("near-duplicates in different classes: 1 pair (" in warning for warning in training.warnings)
    held = {picture.path for picture in training.held_out}
    for shape in ("disc", "cross"):
        for number in range(4):
            pair = {source / shape / f"{number}.jpg", source / shape / f"copy of {number}.jpg"}
            assert len(pair & held) in {0, 2}


def test_a_model_that_is_no_extractor_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        train(TrainingPlan(pictures, tmp_path / "none.tflite", tmp_path / "m.tflite"))
    (tmp_path / "text.tflite").write_text("hello")
    with pytest.raises(ModelError, match=r"text\.tflite: is not a TensorFlow Lite model"):
        train(TrainingPlan(pictures, tmp_path / "text.tflite", tmp_path / "m.tflite"))


def test_a_compiled_extractor_is_taught_with_its_cpu_version_beside_it(
    shared: Path, pictures: Path, tmp_path: Path
) -> None:
    name = "mobilenet_v1_1.0_224_quant_embedding_extractor"
    compiled = tmp_path / f"{name}_edgetpu.tflite"
    shutil.copy(shared / f"data/coral/{name}_edgetpu.tflite", compiled)
    with pytest.raises(MissingError, match=f"put its CPU version `{name}.tflite` beside it"):
        computable(load_extractor(compiled))
    shutil.copy(shared / f"data/coral/{name}.tflite", tmp_path)
    training = train(TrainingPlan(pictures, compiled, tmp_path / "shapes_edgetpu.tflite", holdout=0.3, augment=0))
    bundle = load_bundle(training.output)
    assert bundle.edgetpu_compiled
    assert bundle.labels.names == training.labels
    assert "edgetpu-custom-op" in read_graph(training.output.read_bytes()).operator_counts()
    assert training.twin == tmp_path / "shapes_cpu.tflite"
    check_cpu_model(bundle, load_bundle(training.twin))
    check_compiled(bundle)
    assert training.agreement < 1e-5
    same = train(
        TrainingPlan(pictures, tmp_path / f"{name}.tflite", tmp_path / "shapes.tflite", holdout=0.3, augment=0)
    )
    assert training.evaluation is not None
    assert same.evaluation is not None
    assert abs(training.evaluation.top1 - same.evaluation.top1) < 0.3


def test_the_commands_work_together(plan: TrainingPlan, taught: Training, tmp_path: Path) -> None:
    model, held, report = tmp_path / "shapes.tflite", tmp_path / "held.csv", tmp_path / "report.html"
    files = ("-o", model, "--held-out", held, "--report", report)
    result = command("train", plan.source, *files, "--seed", 1, "--holdout", 0.5, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["images_held_out"] == 21
    assert model.read_bytes() == taught.output.read_bytes()
    assert report.read_text().count("<svg") >= 2
    evaluated = command("eval", held, "--model", model, "--json")
    again = json.loads(evaluated.stdout)
    assert again["top1"] == document["evaluation"]["top1"]
    assert {"images", "top1", "top5", "per_class"} <= set(again)
    both = command("eval", held, "--model", model, "--model", taught.output, "--watch", "round=disc", "--json")
    assert [one["watches"][0]["watch"] for one in json.loads(both.stdout)["models"]] == ["round", "round"]
    text = command("eval", held, "--model", model)
    assert text.exit_code == 0
    assert "top-1" in text.stdout
    assert "shapes" in text.stdout


def test_eval_takes_model_and_watches_from_a_configuration(
    plan: TrainingPlan, taught: Training, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "pipelines:\n"
        "  - name: garden\n"
        f"    source: {{type: folder, path: {plan.source}/disc}}\n"
        f"    model: {{path: {taught.output}}}\n"
        "    watches: [{name: round, labels: [disc]}]\n"
    )
    result = command("eval", plan.source, "--config", config, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["watches"][0]["watch"] == "round"
    assert command("eval", plan.source, "--config", config, "--model", taught.output).exit_code == 2
    assert "it has garden" in command("eval", plan.source, "--config", config, "--pipeline", "x").output


def test_eval_takes_the_region_of_a_configuration_but_for_pictures_that_are_cut_already(
    plan: TrainingPlan, taught: Training, tmp_path: Path
) -> None:
    """What moves is cut out where a pipeline follows it; the pictures of a data set show that."""

    def measured(name: str, more: str, *options: str) -> object:
        source = "{type: v4l2, device: /dev/video0}"
        one = f"{{name: a, source: {source}, model: {{path: {taught.output}}}{more}}}"
        (tmp_path / name).write_text(f"pipelines: [{one}]\n")
        result = command("eval", plan.source, "--config", tmp_path / name, "--json", *options)
        assert result.exit_code == 0, result.output
        return {**json.loads(result.stdout), "inference_ms": None}

    corner = ", region: {x: 0, y: 0, width: 0.1, height: 0.1}"
    whole = measured("whole.yaml", "")
    assert measured("corner.yaml", corner) != whole
    assert measured("corner.yaml", corner, "--upright") == whole
    assert measured("follow.yaml", f"{corner}, motion: {{enabled: true, follow: true}}") == whole
    assert measured("gate.yaml", f"{corner}, motion: {{enabled: true}}") != whole


def test_mistakes_on_the_command_line_end_with_one_sentence_and_code_2(
    plan: TrainingPlan, taught: Training, tmp_path: Path
) -> None:
    for arguments in (
        ("eval", tmp_path / "nowhere"),
        ("eval", plan.source, "--model", taught.output, "--watch", "disc"),
        ("eval", plan.source, "--model", taught.output, "--watch", "round=dics"),
        ("train", tmp_path, "-o", tmp_path / "m.tflite"),
        ("train", plan.source, "-o", tmp_path / "no" / "m.tflite", "--augment", 0),
    ):
        result = command(*arguments)
        assert result.exit_code == 2, result.output
        assert len(result.stderr.strip().splitlines()) == 1
        assert "Traceback" not in result.output


def test_eval_counts_what_it_could_not_use(taught: Training, pictures: Path, tmp_path: Path) -> None:
    source = tmp_path / "set"
    shutil.copytree(pictures / "disc", source / "disc")
    shutil.copytree(pictures / "cross", source / "zebra")
    (source / "disc" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    result = command("eval", source, "--model", taught.output, "--json")
    document = json.loads(result.stdout)
    assert document["images"] == 14
    assert document["left_out"] == ["zebra"]
    assert len(document["unreadable"]) == 1
    assert "broken.jpg" in result.stderr
    assert "`zebra`" in result.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("extractor", ["mobilenet_v1_1.0_224_quant_embedding_extractor", None])
def test_ten_hand_signs_are_learnt_from_fifteen_pictures_each(
    shared: Path, tmp_path: Path, extractor: str | None
) -> None:
    # bench/teach.py measures with all pictures: 95 % and more.
    for sign in range(10):
        for path in sorted((shared / f"data/sign-digits/{sign}").iterdir())[::4]:
            (tmp_path / str(sign)).mkdir(exist_ok=True)
            (tmp_path / str(sign) / path.name).symlink_to(path)
    model = bundled_model_path() if extractor is None else shared / f"data/coral/{extractor}.tflite"
    training = train(TrainingPlan(tmp_path, model, tmp_path / "signs.tflite", holdout=0.4, augment=0))
    assert (len(training.learnt), len(training.held_out)) == (150, 100)
    assert training.evaluation is not None
    assert training.evaluation.top1 >= 0.75
    assert training.fitted.head.pooling == "detail"
    assert not training.warnings


@pytest.mark.slow
def test_eval_agrees_with_the_runtime_used_directly(shared: Path) -> None:
    source = shared / "data/imagenet300"
    bundle = load_bundle(bundled_model_path())
    dataset = read_dataset(source)
    interpreter = find_runtime().make_interpreter(bundle.path, 2)
    given, made = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    prepare, hits = Preprocessor(bundle.input, bundle.normalisation), 0
    for picture in dataset.pictures:
        interpreter.set_tensor(given, prepare(read_image(picture.path)))
        interpreter.invoke()
        hits += int(np.asarray(interpreter.get_tensor(made)).argmax()) == picture.index
    result = try_out(Trial(bundle), dataset, lambda _done, _of: None)
    assert result.images == 300
    assert result.top1 == pytest.approx(hits / 300, abs=0.003)


def test_eval_warns_of_pictures_that_the_model_was_trained_on_whatever_they_are_called(
    plan: TrainingPlan, taught: Training, tmp_path: Path
) -> None:
    held, learnt = tmp_path / "held.csv", tmp_path / "learnt"
    write_table(held, taught.held_out)
    for number, picture in enumerate(taught.learnt[:5]):
        (learnt / picture.class_name).mkdir(parents=True, exist_ok=True)
        shutil.copy(picture.path, learnt / picture.class_name / f"renamed {number}.jpg")
    assert "was trained on" not in command("eval", held, "--model", taught.output).output
    page = tmp_path / "r.html"
    warned = command("eval", plan.source, "--model", taught.output, "--report", page)
    assert "warning: shapes was trained on 21 of the 42 pictures and is less accurate on new ones" in warned.output
    assert "was trained on 21 of the 42 pictures" in page.read_text()
    assert "was trained on all 5 pictures" in command("eval", learnt, "--model", taught.output).output
    result = command("eval", plan.source, "--model", taught.output, "--json")
    assert json.loads(result.stdout)["images_learnt"] == 21
    assert taught.output.stat().st_size < 4_300_000


def test_classes_that_are_kept_bring_the_pictures_they_were_learnt_from(
    pictures: Path, taught: Training, tmp_path: Path
) -> None:
    shutil.copytree(pictures / "disc", tmp_path / "new" / "coin")
    output = tmp_path / "more.tflite"
    more = train(TrainingPlan(tmp_path / "new", bundled_model_path(), output, method="imprinting", keep_classes=True))
    assert len(learnt_by(output)) == len(more.learnt)
    assert learnt_by(bundled_model_path()) == frozenset()
    assert len(learnt_by(taught.output)) == 21


@pytest.mark.parametrize(
    ("holdout", "why"), [(0, "because of --holdout 0"), (0.1, "to give 10% of them; add pictures")]
)
def test_train_announces_that_no_picture_is_held_out(pictures: Path, tmp_path: Path, holdout: float, why: str) -> None:
    for shape in ("disc", "cross"):
        (tmp_path / "few" / shape).mkdir(parents=True)
        for number in range(3):
            shutil.copy(pictures / shape / f"{number}.jpg", tmp_path / "few" / shape)
    output, announced, steps = tmp_path / "few.tflite", list[str](), list[str]()
    plan = TrainingPlan(tmp_path / "few", bundled_model_path(), output, holdout=holdout)
    train(
        plan,
        lambda step, _done, _total: steps.append(step),
        lambda sentence: announced.append(f"{steps[-1]}: {sentence}"),
    )
    assert announced[0].startswith("reading pictures: nothing will be held out")
    assert announced[0].endswith(why)
    assert announced[1].startswith("reading pictures: there is no class `unknown`")
    assert len(announced) == 2
    lines = command("train", tmp_path / "few", "-o", output, "--holdout", holdout).output.splitlines()
    assert lines[0].startswith("nothing will be held out")
    assert lines[-2] == "Next, classify a picture:"


def test_train_ends_with_a_command_that_can_be_run_as_it_is(taught: Training, tmp_path: Path) -> None:
    source = tmp_path / "my pictures"
    shutil.copytree(taught.learnt[0].path.parent.parent, source)
    output = tmp_path / "m o.tflite"
    done = command("train", source, "-o", output, "--fit", "letterbox", "--crop-fraction", 0.9)
    words = shlex.split(done.output.splitlines()[-1])
    assert words[words.index("classify") :][:7] == [
        "classify", "--model", str(output), "--fit", "letterbox", "--crop-fraction", "0.9"
    ]  # fmt: skip
    assert f"{source}/" in words[-1]
    shown = command(*words[words.index("classify") :])
    assert shown.exit_code == 0
    assert words[-1] in shown.output
