from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest
import tflite_builder as tflite
from stand_in import model_pair

from edge_classifierd.config.loading.load import MAX_PROBLEMS, load
from edge_classifierd.errors import ConfigurationError
from edge_classifierd.model.bundle import bundled_model_path, load_bundle
from edge_classifierd.pipeline.planning.plan import ANY_WATCH, Change, compare, same_camera
from edge_classifierd.pipeline.planning.validation import preflight, prepare
from edge_classifierd.preprocess import Region, View

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.pipeline.planning.plan import Plan

HEAD = "pipelines:\n  - name: a\n    source: {type: folder, path: photos}\n"


@pytest.fixture
def photos(tmp_path: Path, repository: Path) -> Path:
    (tmp_path / "photos").mkdir()
    shutil.copy(repository / "edge_classifierd" / "demo_photos" / "cat.jpg", tmp_path / "photos")
    return tmp_path


def plans(folder: Path, text: str) -> tuple[Plan, ...]:
    file = folder / "config.yaml"
    file.write_text(text)
    return preflight(load(file))


def problems(folder: Path, text: str) -> list[tuple[int, int, str, str]]:
    with pytest.raises(ConfigurationError) as caught:
        plans(folder, text)
    return [(one.line, one.column, one.key, one.message) for one in caught.value.problems]


def test_without_watches_the_top_label_is_watched(photos: Path) -> None:
    (plan,) = plans(photos, HEAD)
    assert [(rule.name, rule.indices) for rule in plan.rules] == [(ANY_WATCH, None)]
    assert plan.allowed is None
    assert plan.bundle.name == "efficientnet_lite0_int8"


@pytest.mark.parametrize(
    ("model", "name"),
    [("bundled: fast", "lite0"), ("bundled: accurate", "lite2"), ("path: null", "lite0")],
)
def test_the_configuration_chooses_a_bundled_model(photos: Path, model: str, name: str) -> None:
    (plan,) = plans(photos, HEAD + f"    model: {{{model}}}\n")
    assert plan.bundle.name == f"efficientnet_{name}_int8"


def test_a_bundled_model_excludes_a_path_and_a_cpu_model(photos: Path) -> None:
    for other, bundled in (("path", "fast"), ("cpu_model", "accurate")):
        model = f"    model: {{bundled: {bundled}, {other}: birds.tflite}}\n"
        ((_, _, key, message),) = problems(photos, HEAD + model)
        assert key == "pipelines[0].model.bundled"
        assert f"chooses a bundled model, but `{other}` names a file; remove one of the two" in message
    ((_, _, key, message),) = problems(photos, HEAD + "    model: {bundled: best}\n")
    assert (key, "one of fast, accurate" in message) == ("pipelines[0].model.bundled", True)


def test_globs_indices_and_ranges_become_classes(photos: Path) -> None:
    labels = '["*terrier*", 151, "207-208", Labrador retriever]'
    (plan,) = plans(photos, HEAD + f"    watches: [{{name: dog, labels: {labels}}}]\n")
    indices = plan.rules[0].indices
    assert indices is not None
    assert {151, 207, 208} <= set(indices)
    assert len(indices) > 20
    assert list(indices) == sorted(set(indices))


def test_every_mistake_is_reported_at_once_with_its_place(photos: Path) -> None:
    found = problems(
        photos,
        HEAD
        + '    allow: ["*no such*"]\n'
        + "    watches:\n      - {name: dog, labels: [Labrador retreiver]}\n      - {name: x, labels: [1000]}\n"
        + "  - name: b\n    source: {type: folder, path: empty}\n    model: {path: gone.tflite}\n",
    )
    assert [(line, key) for line, _, key, _ in found] == [
        (4, "pipelines[0].allow[0]"),
        (6, "pipelines[0].watches[0].labels[0]"),
        (7, "pipelines[0].watches[1].labels[0]"),
        (9, "pipelines[1].source.path"),
        (10, "pipelines[1].model.path"),
    ]
    assert "did you mean `Labrador retriever`" in found[1][3]
    assert "indices 0 to 999" in found[2][3]


def test_a_folder_without_pictures_is_a_mistake(photos: Path) -> None:
    (photos / "photos" / "cat.jpg").rename(photos / "photos" / "cat.txt")
    ((line, _, key, message),) = problems(photos, HEAD)
    assert (line, key) == (3, "pipelines[0].source.path")
    assert "holds no pictures" in message


def test_allow_and_deny_narrow_what_is_reported_and_watched(photos: Path) -> None:
    lists = '    allow: ["281-285"]\n    deny: [283]\n    watches: [{name: cat, labels: ["280-285"]}]\n'
    (plan,) = plans(photos, HEAD + lists)
    assert plan.allowed is not None
    assert plan.allowed.nonzero()[0].tolist() == [281, 282, 284, 285]
    assert plan.rules[0].indices == (281, 282, 284, 285)
    found = problems(photos, HEAD + "    deny: [281]\n    watches: [{name: cat, labels: [281]}]\n")
    assert "leave none of these labels" in found[0][3]
    found = problems(photos, HEAD + '    deny: ["*"]\n')
    assert "leaves no label" in found[0][3]


@pytest.mark.parametrize(
    ("after", "change"),
    [
        ("", Change.NONE),
        ("    watches: [{name: cat, labels: [281]}]\n", Change.WATCHES),
        ("    top_k: 3\n    deny: [1]\n", Change.WATCHES),
        ("    fit: letterbox\n", Change.RESTART),
        ("    model: {threads: 1}\n", Change.RESTART),
        ("    region: {x: 0.5}\n", Change.RESTART),
    ],
)
def test_a_reload_restarts_a_pipeline_only_when_necessary(photos: Path, after: str, change: Change) -> None:
    (before,) = plans(photos, HEAD + "    model: {threads: 2}\n" * (1 if "threads" in after else 0))
    (wanted,) = plans(photos, HEAD + after)
    assert compare(before, wanted) is change
    assert compare(None, wanted) is Change.RESTART


PI_CAMERA = "pipelines:\n  - name: a\n    source: {type: picamera2}\n"
CUTTING = PI_CAMERA.replace("picamera2", "picamera2, region_in_camera: true")


@pytest.mark.parametrize(
    ("before", "wanted", "same"),
    [
        (HEAD, HEAD + "    fit: letterbox\n    model: {bundled: accurate}\n    region: {x: 0.5}\n", True),
        (HEAD, HEAD.replace("photos}", "photos, fps: 2}"), False),
        (PI_CAMERA, PI_CAMERA + "    model: {threads: 1}\n", True),
        (PI_CAMERA, PI_CAMERA + "    model: {bundled: accurate}\n", False),
        (PI_CAMERA, PI_CAMERA + "    fit: letterbox\n", False),
        (CUTTING, CUTTING + "    watches: [{name: cat, labels: [281]}]\n", True),
        (CUTTING, CUTTING + "    region: {x: 0.5}\n", False),
    ],
)
def test_a_camera_serves_another_plan_that_needs_the_same_picture(
    photos: Path, before: str, wanted: str, same: bool
) -> None:
    (first,), (second,) = plans(photos, before), plans(photos, wanted)
    assert same_camera(first, second) is same


@pytest.mark.parametrize(
    ("after", "change"),
    [
        ("    snapshot: {quality: 50}\n", Change.WATCHES),
        ("    collect: {enabled: true, path: kept}\n", Change.WATCHES),
        ("    ambiguity_margin: 0.2\n", Change.WATCHES),
        ("    allow: [1]\n", Change.WATCHES),
        ("    watches: [{name: any, labels: [1]}]\n    fit: stretch\n", Change.RESTART),
        ("    crop_fraction: 0.9\n", Change.RESTART),
    ],
)
def test_one_change_that_needs_a_restart_is_enough(photos: Path, after: str, change: Change) -> None:
    (before,) = plans(photos, HEAD)
    (wanted,) = plans(photos, HEAD + after)
    assert compare(before, wanted) is change
    assert compare(wanted, before) is change


def test_a_second_camera_with_the_same_settings_is_another_camera(photos: Path) -> None:
    (before,) = plans(photos, "pipelines: [{name: a, source: {type: v4l2, device: /dev/video0}}]")
    (wanted,) = plans(photos, "pipelines: [{name: a, source: {type: v4l2, device: /dev/video2}}]")
    assert compare(before, wanted) is Change.RESTART


@pytest.mark.parametrize("camera", ["source: {type: stream, url: %s}", "camera: yard"])
def test_another_password_of_a_camera_needs_a_restart(photos: Path, camera: str) -> None:
    before, wanted, same = (
        plans(
            photos,
            f"cameras: [{{name: yard, source: {{type: stream, url: '{url}'}}}}]\n"
            f"pipelines: [{{name: a, {camera.replace('%s', repr(url))}}}]",
        )[0]
        for url in ("rtsp://u:old@porch/1", "rtsp://u:new@porch/1", "rtsp://u:old@porch/1")
    )
    assert compare(before, wanted) is Change.RESTART
    assert compare(before, same) is Change.NONE


def test_a_replaced_model_or_label_file_needs_a_restart(photos: Path) -> None:
    model, twin, labels = (photos / name for name in ("m.tflite", "t.tflite", "l.txt"))
    shutil.copy(bundled_model_path(), model)
    shutil.copy(bundled_model_path(), twin)
    labels.write_text("".join(f"label {number}\n" for number in range(1000)))
    text = HEAD + "    model: {path: m.tflite, labels: l.txt, cpu_model: t.tflite, device: cpu}\n"
    for replaced in (None, model, twin, labels):
        (before,) = plans(photos, text)
        if replaced == labels:
            labels.write_text(labels.read_text().replace("label 7\n", "seven\n"))
        elif replaced is not None:
            with replaced.open("ab") as file:
                file.write(b"\0")
        (wanted,) = plans(photos, text)
        assert compare(before, wanted) is (Change.NONE if replaced is None else Change.RESTART), replaced


def test_labels_are_checked_although_the_cpu_model_is_missing(photos: Path) -> None:
    found = problems(photos, HEAD + "    model: {cpu_model: gone.tflite}\n    watches: [{name: x, labels: [1000]}]\n")
    assert [key for _, _, key, _ in found] == ["pipelines[0].model.cpu_model", "pipelines[0].watches[0].labels[0]"]


def test_a_mistake_in_the_labels_is_reported_at_the_labels(photos: Path) -> None:
    (photos / "few.txt").write_text("one\ntwo\n")
    for labels in ("gone.txt", "few.txt"):
        ((_, _, key, message),) = problems(photos, HEAD + f"    model: {{labels: {labels}}}\n")
        assert (key, labels in message) == ("pipelines[0].model.labels", True)
    ((_, _, key, _),) = problems(photos, HEAD + "    model: {path: gone.tflite, labels: few.txt}\n")
    assert key == "pipelines[0].model.path"


def test_pictures_in_subfolders_count_only_with_recursive(photos: Path) -> None:
    (photos / "photos" / "day").mkdir()
    (photos / "photos" / "cat.jpg").rename(photos / "photos" / "day" / "cat.jpg")
    ((_, _, _, message),) = problems(photos, HEAD)
    assert "set `recursive: true`" in message
    assert plans(photos, HEAD.replace("path: photos", "path: photos, recursive: true"))


@pytest.mark.parametrize(
    ("model", "key", "words"),
    [
        ("path: colours_edgetpu.tflite, device: cpu", "path", "cannot run on the CPU"),
        ("path: colours_edgetpu.tflite, cpu_model: colours_edgetpu.tflite", "cpu_model", "for the Edge TPU too"),
        ("path: colours.tflite, device: 'usb:0'", "device", "not compiled for the Edge TPU"),
        ("path: colours_edgetpu.tflite, cpu_model: gone.tflite, device: cpu", "cpu_model", "gone.tflite"),
    ],
)
def test_a_model_that_does_not_fit_its_device_is_a_mistake(photos: Path, model: str, key: str, words: str) -> None:
    model_pair(photos)
    ((_, _, place, message),) = problems(photos, HEAD + f"    model: {{{model}}}\n")
    assert place == f"pipelines[0].model.{key}"
    assert words in message


def test_a_compiled_model_is_valid_with_a_cpu_model_or_device_auto(photos: Path) -> None:
    model_pair(photos)
    for model in (
        "path: colours_edgetpu.tflite",
        "path: colours_edgetpu.tflite, device: edgetpu",
        "path: colours_edgetpu.tflite, cpu_model: colours.tflite, device: cpu",
        "path: colours.tflite, device: auto",
    ):
        (plan,) = plans(photos, HEAD + f"    model: {{{model}}}\n")
        assert (plan.cpu_bundle is not None) is ("cpu_model" in model)


def test_background_is_reported_only_to_a_watch_that_names_it(photos: Path) -> None:
    model_pair(photos)
    (photos / "labels.txt").write_text("background\ngreen\nblue\n")
    model = "    model: {path: colours.tflite, labels: labels.txt}\n"
    (plan,) = plans(photos, HEAD + model)
    assert plan.allowed is not None
    assert plan.allowed.tolist() == [False, True, True]
    (plan,) = plans(photos, HEAD + model + "    watches: [{name: away, labels: [background]}]\n")
    assert plan.rules[0].indices == (0,)


def test_a_watch_becomes_a_rule_with_all_its_settings(photos: Path) -> None:
    settings = "threshold: 0.7, release: 0.2, confirm: 4, cooldown: 30s"
    (plan,) = plans(photos, HEAD + f"    watches: [{{name: cat, labels: [281], {settings}}}]\n")
    (rule,) = plan.rules
    assert (rule.threshold, rule.release, rule.confirm, rule.cooldown_s) == (0.7, 0.2, 4, 30.0)
    assert rule.combine == "sum"
    (plan,) = plans(photos, HEAD)
    (rule,) = plan.rules
    assert (rule.threshold, rule.release) == (0.6, 0.4)


def test_a_rotation_or_region_that_the_source_applies_is_not_applied_twice(photos: Path) -> None:
    keys = "    region: {x: 0.5}\n"
    for source, left in (
        ("{type: folder, path: photos}", View(region=Region(0.5, 0, 0.5, 1))),
        ("{type: v4l2, rotation: 90, mirror: horizontal}", View(90, "horizontal", Region(0.5, 0, 0.5, 1))),
        ("{type: picamera2, rotation: 180}", View(region=Region(0.5, 0, 0.5, 1))),
        ("{type: picamera2, rotation: 90}", View(90, region=Region(0.5, 0, 0.5, 1))),
        ("{type: picamera2, rotation: 180, region_in_camera: true}", View()),
    ):
        (plan,) = plans(photos, f"pipelines:\n  - name: a\n    source: {source}\n{keys}")
        assert plan.view == left
        assert plan.region == Region(0.5, 0, 0.5, 1)


def test_multi_label_confidences_are_not_added(photos: Path) -> None:
    graph = tflite.classifier(tflite.LOGISTIC, "uint8", 1 / 16, 128)
    (photos / "many.tflite").write_bytes(tflite.pack(graph, files={"labels.txt": b"red\ngreen\nblue\n"}))
    text = HEAD + "    model: {path: many.tflite}\n    watches: [{name: warm, labels: [red, green]}]\n"
    (plan,) = plans(photos, text)
    assert plan.rules[0].combine == "max"


def test_model_and_label_mistakes_of_valid_pipelines_are_listed_beside_mistakes_of_the_file(photos: Path) -> None:
    file = photos / "config.yaml"
    file.write_text(
        "mqtt: {prot: 1883}\n"
        "pipelines:\n"
        "  - name: a\n"
        "    source: {type: folder, path: photos}\n"
        "    tresholds: 3\n"
        "    model: {path: gone-too.tflite}\n"
        "  - name: b\n"
        "    source: {type: folder, path: nowhere}\n"
        "    watches: [{name: x, labels: ['*zzz*']}]\n"
        "  - !env no name\n"
        "  - name: d\n"
        "    source: {type: folder, path: photos}\n"
        "    model: {path: gone.tflite}\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        prepare(file)
    found = caught.value.problems
    assert [(one.line, one.key) for one in found] == [
        (1, "mqtt.prot"),
        (5, "pipelines[0].tresholds"),
        (8, "pipelines[1].source.path"),
        (9, "pipelines[1].watches[0].labels[0]"),
        (10, "pipelines[2]"),
        (13, "pipelines[3].model.path"),
    ]


def found_in(folder: Path, text: str) -> list[str]:
    """The keys of everything that `check` complains of."""
    file = folder / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        prepare(file)
    return [one.key.removeprefix("pipelines[0].") for one in caught.value.problems]


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        ("    modell: {path: mine.tflite}\n    deny: [mine]\n", ["modell"]),
        ("    classifier: mine.tflite\n    deny: [mine]\n", ["classifier"]),
        ("    model: mine.tflite\n    deny: [mine]\n", ["model"]),
        ("    model: {lables: mine.txt}\n    deny: [mine]\n", ["model.lables"]),
        ("    model: {locale: '!'}\n    deny: [Katze]\n", ["model.locale"]),
        ("    allow: [-1]\n    watches: [{name: w, labels: [281]}]\n", ["allow[0]"]),
        ("    allow: [0]\n    deny: [-1]\n", ["deny[0]"]),
        ("    deny: [0]\n    watches: [{name: w, labels: [-1]}]\n", ["watches[0].labels[0]"]),
        ("    watches: [{name: w, labels: [281], threshold: 0, release: 0.9}]\n", ["watches[0].threshold"]),
        ("    watches: dog\n    allow: [281]\n", ["watches"]),
    ],
)
def test_an_invalid_pipeline_gives_only_its_schema_mistakes(photos: Path, mistake: str, found: list[str]) -> None:
    assert found_in(photos, HEAD + mistake) == found


def test_each_file_of_a_model_has_its_own_mistake(photos: Path) -> None:
    model = "    model: {path: gone.tflite, labels: gone.txt, cpu_model: gone_cpu.tflite}\n"
    assert found_in(photos, HEAD + model) == ["model.path", "model.labels", "model.cpu_model"]
    shutil.copy(bundled_model_path(), photos / "there.tflite")
    model = "    model: {path: there.tflite, labels: gone.txt, cpu_model: there.tflite}\n"
    assert found_in(photos, HEAD + model) == ["model.labels"]


def test_the_first_of_very_many_mistakes_are_listed_and_the_rest_counted(photos: Path) -> None:
    file = photos / "config.yaml"
    wrong = ", ".join(f"zq{number}xx" for number in range(1500))
    file.write_text(f"mqtt: {{prot: 1}}\n{HEAD}    deny: [{wrong}]\n" + "".join(f"u{n}: 5\n" for n in range(200)))
    start = time.process_time()
    with pytest.raises(ConfigurationError) as caught:
        prepare(file)
    assert time.process_time() - start < 10
    found = caught.value.problems
    assert len(found) == MAX_PROBLEMS + 1
    assert [one.key for one in found[:2]] == ["mqtt.prot", "pipelines[0].deny[0]"]
    assert found[-2].key == f"pipelines[0].deny[{MAX_PROBLEMS - 2}]"
    assert found[-1].message == f"and {1 + 1500 + 200 - MAX_PROBLEMS:,} more problems"
    file.write_text(f"{HEAD}    deny: [{wrong}]\n")
    with pytest.raises(ConfigurationError, match=f"and {1500 - MAX_PROBLEMS:,} more problems"):
        preflight(load(file))


def test_very_many_labels_and_globs_are_matched_fast(photos: Path) -> None:
    names = [name for name in load_bundle(bundled_model_path()).labels.names if "'" not in name]
    allow = ", ".join(f"'{name}'" for name in names)
    deny = ", ".join(f"'*{name[:4]}{number}*', '*a*b'" for number, name in enumerate(names))
    start = time.process_time()
    problems(photos, f"{HEAD}    allow: [{allow}]\n    deny: [{deny}]\n")
    assert time.process_time() - start < 10


def test_a_file_without_mistakes_gives_its_plans(photos: Path) -> None:
    (photos / "config.yaml").write_text(HEAD)
    document, (plan,) = prepare(photos / "config.yaml")
    assert [(key, section.name) for key, section in document.pipelines] == [("pipelines[0]", "a")]
    assert plan.section is document.pipelines[0][1]


def test_a_mistake_in_a_shared_source_is_reported_once_at_the_camera(photos: Path) -> None:
    (photos / "empty").mkdir()
    text = "cameras: [{name: yard, source: {type: folder, path: empty}}]\npipelines:\n"
    text += "  - {name: a, camera: yard}\n  - {name: b, camera: yard}\n"
    (found,) = problems(photos, text)
    assert found[2] == "cameras[0].source.path"
    assert "holds no pictures" in found[3]


def test_pipelines_of_a_camera_are_checked_beside_mistakes_of_the_file(photos: Path) -> None:
    text = "cameras: [{name: yard, source: {type: v4l2}}, {name: 5, source: {type: v4l2, device: /dev/video1}}]\n"
    text += "pipelines:\n  - {name: a, camera: yard, watches: [{name: cat, labels: [no such label]}]}\n"
    assert found_in(photos, text) == ["cameras[1].name", "watches[0].labels[0]"]
