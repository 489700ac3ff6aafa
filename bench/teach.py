"""How accurately and how fast `train` teaches: bench/teach.py [--seeds 3] PICTURES [EXTRACTOR …].

PICTURES holds one folder per class. For each extractor (the fast bundled model when none is named): half of the
pictures held out, and all but 10 a class held out; mean and least of the seeds. `fast` and `accurate` are the bundled
models.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command does

from edge_classifierd.learning.dataset import read_dataset
from edge_classifierd.learning.train import TrainingPlan, train
from edge_classifierd.model.bundle import bundled_model_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("extractors", nargs="*", default=["fast"])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    dataset = read_dataset(arguments.pictures)
    per_class = len(dataset.pictures) / len(dataset.classes)
    for name in arguments.extractors:
        extractor = bundled_model_path(name) if name in {"fast", "accurate"} else Path(name)
        for holdout in (0.5, 1 - 10 / per_class):
            accuracies, seconds, agreement = [], [], 0.0
            for seed in range(arguments.seeds):
                with tempfile.TemporaryDirectory() as folder:
                    plan = TrainingPlan(
                        arguments.pictures, extractor, Path(folder) / "m.tflite", seed=seed, holdout=holdout
                    )
                    done = train(plan)
                assert done.evaluation is not None
                accuracies.append(done.evaluation.top1)
                seconds.append(done.seconds)
                agreement = max(agreement, done.agreement)
            print(
                f"{extractor.stem}: {len(done.learnt) / len(dataset.classes):.0f} pictures a class, "
                f"mean {statistics.mean(accuracies):.1%}, least {min(accuracies):.1%} of {arguments.seeds} seeds; "
                f"{statistics.median(seconds):.0f} s; file and numpy differ by at most {agreement:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
