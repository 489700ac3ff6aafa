#!/usr/bin/env bash
# lower_bounds.sh [PYTEST ARGUMENT…]: the lowest versions that pyproject.toml allows really work: they are installed for Python 3.11, for which
# all of them have wheels, and the unit tests run with them. About five minutes. Without PyPI it says why and ends with 77.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet --disable-pip-version-check uv || { echo "skipped: uv cannot be installed from PyPI" >&2; exit 77; }
uv() { "$work/tools/bin/uv" --quiet --no-python-downloads "$@"; }
uv venv --python 3.11 "$work/venv" || { echo "skipped: there is no Python 3.11 here" >&2; exit 77; }
# The tools of the tests are the newest: they are no business of the daemon.
uv pip install --python "$work/venv" --resolution lowest-direct --editable '.[demo,web]'
"$work/venv/bin/python" - <<'P' >"$work/tools.txt"
import tomllib
from pathlib import Path

dev = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
print(*(line for line in dev if not line.startswith(("edge-classifierd", "mypy", "ruff", "types-", "pre-commit", "playwright"))), sep="\n")
P
uv pip install --python "$work/venv" --requirement "$work/tools.txt"
uv pip list --python "$work/venv" --format freeze
# The generated reference is written with the newest pydantic: each version words a schema in its own way.
"$work/venv/bin/python" -m pytest -q --ignore=tests/unit/config/generate --numprocesses 2 --dist loadfile -p no:cacheprovider "${@:-tests/unit}"
