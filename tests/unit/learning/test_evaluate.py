from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from drawn_pictures import drawn, write
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_classifierd.learning.evaluate import Scored, evaluate
from edge_classifierd.learning.predict import sweeps_of
from edge_classifierd.learning.report.html_report import Page, render, write_report
from edge_classifierd.learning.report.json_report import evaluation_document
from edge_classifierd.learning.thresholds import WatchedClasses, sweep


def scored(confidences: list[list[float]], truth: list[int], targets: list[tuple[int, ...]] | None = None) -> Scored:
    rows = np.array(confidences, np.float32)
    names = ["cat", "dog", "hen"][: max(truth) + 1]
    return Scored(
        [Path(f"{number}.jpg") for number in range(len(rows))],
        np.array(truth, np.intp),
        rows,
        names,
        targets or [(position,) for position in range(len(names))],
        [f"label {position}" for position in range(rows.shape[1])],
    )


MIXED = scored(
    [[0.7, 0.2, 0.1], [0.2, 0.75, 0.05], [0.1, 0.8, 0.1], [0.45, 0.15, 0.4], [0.1, 0.05, 0.85], [0.35, 0.3, 0.35]],
    [0, 0, 1, 1, 2, 2],
)


def test_accuracy_precision_recall_and_confusions_by_hand() -> None:
    result = evaluate("m", MIXED)
    assert result.top1 == 3 / 6
    assert result.top5 == 1.0
    assert [(one.name, one.images, one.recall, one.precision) for one in result.per_class] == [
        ("cat", 2, 0.5, 1 / 3),
        ("dog", 2, 0.5, 0.5),
        ("hen", 2, 0.5, 1.0),
    ]
    assert [(one.truth, one.predicted, one.count) for one in result.confusions] == [
        ("cat", "dog", 1),
        ("dog", "cat", 1),
        ("hen", "cat", 1),
    ]
    assert result.ambiguous == pytest.approx(2 / 6)
    assert [one.path.name for one in result.mistakes] == ["1.jpg", "3.jpg", "5.jpg"]
    assert result.mistakes[0].truth_confidence == pytest.approx(0.2)


def test_calibration_error_is_the_distance_of_confidence_from_accuracy() -> None:
    result = evaluate("m", scored([[0.95, 0.05]] * 4, [0, 0, 1, 1]))
    assert result.calibration_error == pytest.approx(0.45)
    assert [one.images for one in result.bins] == [0] * 9 + [4]
    assert evaluate("m", scored([[1.0, 0.0]], [0])).calibration_error == 0


def test_each_of_several_right_labels_counts_and_strangers_keep_the_models_name() -> None:
    data = scored([[0.1, 0.2, 0.7, 0], [0.6, 0.2, 0.1, 0.1], [0, 0, 0, 1]], [0, 0, 1], [(0, 2), (1,)])
    result = evaluate("m", data)
    assert result.per_class[0].recall == 1.0
    assert result.confusions[0].predicted == "label 3"


def test_the_right_label_must_be_among_the_best_five() -> None:
    row = [0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05]
    assert evaluate("m", scored([row], [0], [(4,)])).top5 == 1
    assert evaluate("m", scored([row], [0], [(5,)])).top5 == 0


def test_a_clean_gap_puts_the_threshold_in_its_middle() -> None:
    confidences = np.array([[0.8]] * 6 + [[0.2]] * 6, np.float32)
    result = sweep(WatchedClasses("cat", (0,)), confidences, [(0,)] * 6 + [()] * 6)
    assert result.threshold == pytest.approx(0.5, abs=0.01)
    assert result.release == pytest.approx(0.33, abs=0.01)
    assert (result.precision, result.recall) == (1.0, 1.0)


def test_precision_comes_first_and_recall_decides_among_what_is_precise() -> None:
    confidences = np.array([[0.9]] * 20 + [[0.5]] * 10 + [[0.5]] * 10 + [[0.1]] * 10, np.float32)
    result = sweep(WatchedClasses("cat", (0,)), confidences, [(0,)] * 30 + [()] * 20)
    assert 0.5 < (result.threshold or 0) <= 0.9
    assert result.precision == 1.0
    assert result.recall == pytest.approx(2 / 3)


def test_without_a_precise_threshold_the_best_balance_is_recommended_and_said() -> None:
    confidences = np.array([[0.9], [0.9]] * 6, np.float32)
    result = sweep(WatchedClasses("cat", (0,)), confidences, [(0,), ()] * 6)
    assert result.precision == 0.5
    assert "best balance" in result.reason


def test_a_watch_sums_its_classes_or_takes_the_greatest() -> None:
    confidences = np.array([[0.3, 0.3]] * 6 + [[0.1, 0.0]] * 6, np.float32)
    targets = [(0,), (1,)] * 3 + [()] * 6
    summed = sweep(WatchedClasses("pet", (0, 1)), confidences, targets)
    assert summed.points[54].recall == 1.0
    greatest = sweep(WatchedClasses("pet", (0, 1), "max"), confidences, targets)
    assert greatest.points[54].recall == 0.0


def test_too_few_pictures_give_no_recommendation() -> None:
    result = sweep(WatchedClasses("cat", (0,)), np.array([[0.9]] * 4, np.float32), [(0,)] * 4)
    assert result.threshold is None
    assert "only 4 pictures" in result.reason


@given(
    hnp.arrays(np.float32, (12, 2), elements=st.floats(0, 1, width=32)),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_recall_never_grows_with_the_threshold(confidences: np.ndarray, there: list[bool]) -> None:
    result = sweep(WatchedClasses("cat", (0,)), confidences, [(0,) if one else () for one in there])
    recalls = [point.recall for point in result.points]
    assert recalls == sorted(recalls, reverse=True)
    if result.threshold is not None:
        assert 0 < (result.release or 0) <= result.threshold


def test_the_document_is_json_with_fractions_and_every_class() -> None:
    document = evaluation_document(evaluate("m", MIXED, sweeps=sweeps_of(MIXED, [WatchedClasses("cat", (0,))])))
    again = json.loads(json.dumps(document))
    assert (again["images"], again["top1"], again["top5"]) == (6, 0.5, 1.0)
    assert again["per_class"]["hen"] == {"images": 2, "recall": 0.5, "precision": 1.0}
    assert [point["threshold"] for point in again["watches"][0]["points"]][:2] == [0.05, 0.1]


def test_the_report_is_one_page_that_loads_nothing_and_escapes_names(tmp_path: Path) -> None:
    write(tmp_path / "wrong.jpg", drawn("cross", 1))
    data = scored([[0.9, 0.1], [0.2, 0.8]] * 5, [0, 0] * 5 + [])
    data = Scored([tmp_path / "wrong.jpg"] * 10, data.truth, data.confidences, ["<b>cat"], [(0,)], ["<b>cat", "<i>dog"])
    result = evaluate("model <1>", data, sweeps=sweeps_of(data))
    page = render(Page("Title", "there", warnings=["mind & body"]), [result, result])
    assert "<b>cat" not in page
    assert "<i>dog" not in page
    assert "&lt;b&gt;cat" in page
    assert "mind &amp; body" in page
    assert "Side by side" in page
    assert page.count("data:image/jpeg;base64,") == 10
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") == page.count("</svg>") == 4
    write_report(tmp_path / "report.html", Page("Title", "there"), [result])
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_the_report_has_a_matrix_for_few_classes_whose_rows_add_up() -> None:
    page = render(Page("Title", "there"), [evaluate("m", MIXED)])
    assert "confusion matrix" in page
    for line in ("cat taken for cat: 1 of 2", "cat taken for dog: 1 of 2", "hen taken for hen: 1 of 2"):
        assert line in page
