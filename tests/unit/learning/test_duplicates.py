from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from drawn_pictures import drawn
from PIL import Image

from edge_classifierd.learning.duplicates import burst_pairs, grouped, time_taken
from edge_classifierd.learning.train import TrainingPlan, train
from edge_classifierd.model.bundle import bundled_model_path


def photograph(path: Path, shape: str, number: int, taken: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = Image.Exif()
    tags[0x8769] = {0x9003: taken}
    Image.fromarray(drawn(shape, number)).save(path, exif=tags)


@pytest.mark.parametrize(
    "name",
    ["IMG_20261128_221530.jpg", "2026-11-28_22-15-30-120000.jpg", "20261128221530.jpg", "PXL 2026-11-28 22.15.30.jpg"],
)
def test_the_time_is_read_from_names_that_contain_it(tmp_path: Path, name: str) -> None:
    assert time_taken(tmp_path / name) == datetime(2026, 11, 28, 22, 15, 30)  # noqa: DTZ001


def test_the_time_in_exif_data_comes_first_and_names_without_a_time_have_none(tmp_path: Path) -> None:
    photograph(tmp_path / "20261128_221530.jpg", "disc", 0, "2020:01:02 03:04:05")
    assert time_taken(tmp_path / "20261128_221530.jpg") == datetime(2020, 1, 2, 3, 4, 5)  # noqa: DTZ001
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff")
    for name in ("IMG_1118.JPG", "20261399_999999.jpg", "broken.jpg", "missing.jpg"):
        assert time_taken(tmp_path / name) is None


def test_a_burst_ends_after_a_gap_a_long_time_or_a_folder() -> None:
    names = [f"a/20261128_2215{second:02}.jpg" for second in (0, 2, 4, 10, 12)] + ["b/20261128_221513.jpg"]
    groups = grouped(6, burst_pairs([Path(name) for name in names]))
    assert groups.tolist() == [0, 0, 0, 3, 3, 5]
    series = [Path(f"a/20261128_22{second // 60:02}{second % 60:02}.jpg") for second in range(0, 120, 2)]
    assert len(np.unique(grouped(60, burst_pairs(series)))) == 4


def test_pictures_of_a_burst_stay_on_one_side_of_the_split(tmp_path: Path) -> None:
    for shape in ("disc", "cross"):
        for number in range(12):
            taken = f"2026:11:28 10:{number // 3:02}:{number % 3:02}"  # four bursts of three
            photograph(tmp_path / "set" / shape / f"{number}.jpg", shape, number, taken)
    plan = TrainingPlan(tmp_path / "set", bundled_model_path(), tmp_path / "m.tflite", holdout=0.5, augment=0)
    training = train(plan)
    assert any(one.startswith("bursts: 24 pictures were taken at most 3 s apart") for one in training.warnings)
    held = {picture.path for picture in training.held_out}
    assert held
    for shape in ("disc", "cross"):
        for burst in range(4):
            members = {tmp_path / "set" / shape / f"{burst * 3 + at}.jpg" for at in range(3)}
            assert len(members & held) in {0, 3}
