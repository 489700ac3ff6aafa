"""Figures of the store of taught pictures with 5,000 of them: each list, adding, moving, the sides of a training.

    python bench/teaching_store.py [--pictures 5000] [--runs 20] [--directory DIR] [--json]

The pictures are drawn, imported as an archive (whose rate is a figure too), half of them without a class. Exits with 1
when the median of a list is above the promised 200 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edge_classifierd.clock import SystemClock
from edge_classifierd.frames.jpeg import encode_jpeg
from edge_classifierd.preprocess import View
from edge_classifierd.teaching.records import Guess
from edge_classifierd.teaching.store import TeachingStore

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES = 8
MOST_LIST_MS = 200.0
LISTS = ("models", "model", "class", "to_sort", "to_sort_last_page", "thumbnail")


def drawn(number: int) -> av.VideoFrame:
    cells = np.random.default_rng(number).integers(0, 255, (16, 17, 3), np.uint8)
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(cells.repeat(20, 0).repeat(20, 1)), format="rgb24")


def write_archive(path: Path, pictures: int) -> None:
    """An archive as `teach export` writes it: half of the pictures to sort, with guesses."""
    noted = []
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(pictures):
            name = f"class{number // 2 % CLASSES}"
            held = "held-out" if number % 10 == 0 else "train"
            file = f"{held}/{name}/{number}.jpg" if number % 2 else f"to-sort/{number}.jpg"
            guess = None if number % 2 else {"label": name, "confidence": number % 100 / 100}
            noted.append({"file": file, "recording": f"{name}{held}{number // 200}", "guess": guess})
            archive.writestr(file, encode_jpeg(drawn(number), View(), max_width=1024, quality=85))
        index = {"format": "edge-classifierd taught pictures", "version": 1, "pictures": noted}
        archive.writestr("index.json", json.dumps(index))


def median_ms(runs: int, action: Callable[[], object]) -> float:
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(folder: Path, pictures: int, runs: int) -> dict[str, float]:
    archive = folder / "bench.zip"
    write_archive(archive, pictures - 200)  # room for those that are added
    store = TeachingStore(folder, SystemClock())
    before_mb = resident_mb()
    start = time.perf_counter()
    store.import_(archive, "bench")
    figures = {"import_per_s": (pictures - 200) / (time.perf_counter() - start)}
    figures["import_mb"] = resident_mb() - before_mb
    classes = [one.id for one in store.model("bench").classes if one.pictures]
    to_sort = store.pictures("bench", "to_sort", limit=pictures)
    last_page = to_sort[-200].id
    numbers = iter(range(10**6, 10**6 + 200))

    def add() -> None:
        kept = store.add_picture(
            "bench", class_id=classes[0], picture=drawn(next(numbers)), source="camera", guess=Guess("class0", 0.5)
        )
        assert kept.kept

    lists: dict[str, Callable[[], object]] = {
        "models": store.models,
        "model": lambda: store.model("bench"),
        "class": lambda: store.pictures("bench", classes[1]),
        "to_sort": lambda: store.pictures("bench", "to_sort"),
        "to_sort_last_page": lambda: store.pictures("bench", "to_sort", last_page),
        "thumbnail": lambda: store.jpeg("bench", to_sort[0].id, thumb=True),
    }
    assert tuple(lists) == LISTS
    figures |= {f"{name}_ms": median_ms(runs, action) for name, action in lists.items()}
    figures["add_ms"] = median_ms(min(runs, 200), add)
    chosen = [one.id for one in to_sort[:500]]
    moves: list[int] = []
    figures["move_500_ms"] = median_ms(3, lambda: moves.append(store.move("bench", chosen, classes[len(moves) % 2])))
    figures["undo_500_ms"] = median_ms(3, lambda: store.undo("bench", moves.pop()))
    figures["training_set_ms"] = median_ms(3, lambda: store.training_set("bench"))
    figures["index_mb"] = sum(one.stat().st_size for one in (folder / "taught").glob("index.*")) / 1e6
    store.close()
    return figures


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pictures", type=int, default=5000)
    options.add_argument("--runs", type=int, default=20)
    options.add_argument("--directory", type=Path, help="where to make a temporary folder, for instance on an SD card")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.directory) as folder:
        figures = measure(Path(folder), given.pictures, given.runs)
    if given.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:24}{value:10.1f}")
    return int(max(figures[f"{name}_ms"] for name in LISTS) > MOST_LIST_MS)


if __name__ == "__main__":
    sys.exit(main())
