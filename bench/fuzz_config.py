"""Damaged configuration files: each must end as a Document or a ConfigurationError, soon and in little memory.

    python bench/fuzz_config.py [--files 10000] [--seed 0] [--json]

The files are those of tests/unit/config/config_files.py (mutations of good files, YAML bombs, deep nesting, wrong
encodings, wide files of up to 1 MB), and what is no file at all: a directory, a FIFO, a device, 100 MB. Exit code 1
when anything else came out.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/unit/config"))

from config_files import damaged, written  # type: ignore[import-not-found]

from edge_classifierd.config.loading.load import load
from edge_classifierd.errors import ConfigurationError


def peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def outcome(path: Path) -> str:
    try:
        load(path)
    except ConfigurationError as error:
        return "refused" if error.problems and str(error) else "refused without a reason"
    except Exception as error:  # noqa: BLE001 - what this bench looks for
        traceback.print_exc()
        return f"{type(error).__name__} (a bug)"
    return "loaded"


def no_files(folder: Path) -> list[Path]:
    fifo, loop, huge, sparse = folder / "fifo", folder / "loop", folder / "huge.yaml", folder / "sparse.yaml"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    with huge.open("wb") as stream:
        for _ in range(100):
            stream.write(b"a: 5\n" * 200_000)
    with sparse.open("wb") as stream:
        stream.truncate(1 << 40)
    return [
        folder,
        folder / "absent",
        fifo,
        loop,
        huge,
        sparse,
        Path("/dev/zero"),
        Path("/dev/stdin"),
        Path("/proc/self/mem"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    outcomes: collections.Counter[str] = collections.Counter()
    slowest_s, slowest_seed, total_s = 0.0, -1, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before_mb = peak_memory_mb()
        for path in no_files(folder):
            outcomes[outcome(path)] += 1
        for seed in range(options.seed, options.seed + options.files):
            path = written(folder, damaged(seed))
            start = time.perf_counter()
            outcomes[outcome(path)] += 1
            elapsed = time.perf_counter() - start
            total_s += elapsed
            if elapsed > slowest_s:
                slowest_s, slowest_seed = elapsed, seed
    result = {
        "outcomes": dict(outcomes),
        "seconds": round(total_s, 1),
        "slowest_s": round(slowest_s, 2),
        "slowest_seed": slowest_seed,
        "peak_memory_mb": round(peak_memory_mb()),
        "memory_before_mb": round(before_mb),
    }
    print(json.dumps(result) if options.json else "\n".join(f"{key:>17}: {value}" for key, value in result.items()))
    return 0 if set(outcomes) <= {"loaded", "refused"} else 1


if __name__ == "__main__":
    sys.exit(main())
