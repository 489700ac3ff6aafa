"""How long the daemon takes from the start of its process to its first classification, and how much memory it holds.

usage: python bench/startup.py [MODEL.tflite] [--runs 5] [--settle 5] [--json]

Starts the real `edge-classifierd run` on the bundled photographs at 10 frames a second, without a broker; the time is
the daemon's own, from the kernel's start time of the process to the first decision. CPU seconds are the process's own
up to the end of its run less what the settled run used, so that a busy machine can be told from a slow start.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PHOTOS = Path(__file__).resolve().parents[1] / "edge_classifierd" / "demo_photos"


def run(config: Path, state: Path, settle_s: float) -> dict[str, float]:
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_classifierd", "run", "--config", str(config)],
        stderr=subprocess.PIPE,
        text=True,
        env={"EDGE_CLASSIFIERD_STATE": str(state), "PATH": "/usr/bin:/bin"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"first frame classified, ([0-9.]+) s", line)
        if found:
            break
    else:
        raise SystemExit("the daemon ended before its first classification")
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / 100
    time.sleep(settle_s)
    status = Path(f"/proc/{process.pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+)", status)
    assert resident is not None
    process.terminate()
    process.communicate(timeout=10)
    return {"first_s": float(found[1]), "cpu_s": cpu_s, "resident_mb": round(int(resident[1]) * 1024 / 1e6, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--settle", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "config.yaml"
        source = {"type": "folder", "path": str(PHOTOS), "fps": 10, "loop": True}
        pipeline: dict[str, Any] = {"name": "bench", "source": source}
        if options.model:
            pipeline["model"] = {"path": str(options.model.resolve())}
        # JSON is YAML.
        config.write_text(json.dumps({"mqtt": {"host": "127.0.0.1", "port": 1}, "pipelines": [pipeline]}))
        runs = [run(config, Path(name) / "state", options.settle) for _ in range(options.runs + 1)][1:]
    result = {
        key: {"median": statistics.median(one[key] for one in runs), "all": [one[key] for one in runs]}
        for key in ("first_s", "cpu_s", "resident_mb")
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"first classification  {result['first_s']['median']:6.2f} s after the start   {result['first_s']['all']}")
    print(f"processor time to it  {result['cpu_s']['median']:6.2f} s                   {result['cpu_s']['all']}")
    memory = result["resident_mb"]
    print(f"resident memory       {memory['median']:6.1f} MB                  {memory['all']}")


if __name__ == "__main__":
    main()
