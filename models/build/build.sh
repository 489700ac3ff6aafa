#!/usr/bin/env bash
# Builds ../efficientnet_lite0_int8.tflite. Usage: build.sh PHOTOGRAPHS [OUTPUT [build.py's options]]
# Needs Python 3.11 and 3 GB of disk. VENV=FOLDER keeps the virtual environment elsewhere than in .venv beside this file.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
photographs=${1:?usage: build.sh PHOTOGRAPHS [OUTPUT]}
output=${2:-$here/../efficientnet_lite0_int8.tflite}
venv=${VENV:-$here/.venv}
if [[ ! -e $venv/complete ]]; then
    "${PYTHON:-python3.11}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
    # Its own requirements (an old protobuf, a sound library) are for other parts of it than the schema used here.
    "$venv/bin/pip" install --quiet --no-deps --requirement "$here/requirements-without-dependencies.txt"
    touch "$venv/complete"
fi
# One thread for linear algebra: sums do not depend on the number of cores.
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 PYTHONHASHSEED=0
exec "$venv/bin/python" "$here/build.py" "$photographs" "$output" "${@:3}"
