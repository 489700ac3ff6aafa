#!/usr/bin/env bash
# Builds a bundled model. Usage: build.sh fast|accurate PHOTOGRAPHS [OUTPUT [build.py's options]]
# Needs Python 3.11 and 3 GB of disk. VENV=FOLDER keeps the virtual environment elsewhere than in .venv beside this file.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage="usage: build.sh fast|accurate PHOTOGRAPHS [OUTPUT]"
variant=${1:?$usage}
photographs=${2:?$usage}
case $variant in
    fast) name=efficientnet_lite0_int8 ;;
    accurate) name=efficientnet_lite2_int8 ;;
    *) echo "$usage" >&2; exit 2 ;;
esac
output=${3:-$here/../$name.tflite}
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
exec "$venv/bin/python" "$here/build.py" "$variant" "$photographs" "$output" "${@:4}"
