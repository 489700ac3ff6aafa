"""Writes the generated documents: example, reference page and JSON Schema. `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from edge_classifierd.config.generate.example import render_example
from edge_classifierd.config.generate.json_schema import render_schema
from edge_classifierd.config.generate.reference import render_reference

DOCUMENTS = {
    "config/example.yaml": render_example,
    "docs/configuration.md": render_reference,
    "docs/configuration.schema.json": render_schema,
}
"""Render function by path from the repository's root."""


def outdated(root: Path) -> list[str]:
    """Return the files below `root` that are missing or differ from the generated text."""
    return [
        name
        for name, render in DOCUMENTS.items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != render()
    ]


def main(arguments: list[str]) -> int:
    """Write or check the files of this checkout; return the exit code."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m edge_classifierd.config.generate.render [--check]\n")
        return 2
    root = Path(__file__).resolve().parents[3]
    stale = outdated(root)
    if arguments:
        sys.stderr.writelines(f"{name}: outdated; run this command without --check\n" for name in stale)
        return 1 if stale else 0
    for name in stale:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(DOCUMENTS[name](), encoding="utf-8")
        sys.stdout.write(f"{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
