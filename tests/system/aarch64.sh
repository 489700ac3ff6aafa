#!/usr/bin/env bash
# aarch64.sh: the wheel on a 64-bit ARM Debian 12 under qemu-user: it installs, `demo` shows events, and scores equal this
# machine's, with LiteRT and with tflite-runtime: within one quantisation step with the reference kernels, within four with
# the fast ones, which round in each processor's own way. A quarter of an hour; wheels come from PyPI.
# Needs root, debootstrap, qemu-aarch64-static, and binfmt_misc; without them it says why and ends with 77.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
roots=${EDGE_CLASSIFIERD_ROOTS:-/var/tmp/edge-classifierd-roots}
root=$roots/aarch64
# shellcheck source=tests/system/mirror.bash
. "$here/mirror.bash"
# shellcheck source=tests/system/arm64.bash
. "$here/arm64.bash"
python=${PYTHON:-$repository/.venv/bin/python}

[ "$(id -u)" -eq 0 ] || { echo "skipped: needs root" >&2; exit 77; }
command -v debootstrap >/dev/null || { echo "skipped: debootstrap is not installed" >&2; exit 77; }
reason=$(run_arm64) || { echo "skipped: $reason" >&2; exit 77; }

mkdir -p "$roots"
if [ ! -e "$root/.debootstrapped" ]; then
  [ -d "$root/debootstrap" ] || debootstrap --arch=arm64 --foreign --variant=minbase --include=python3,python3-venv,ca-certificates \
    bookworm "$root" "$(debian_mirror)" >"$roots/aarch64.log" 2>&1
  chroot "$root" /debootstrap/debootstrap --second-stage >>"$roots/aarch64.log" 2>&1 || { tail "$roots/aarch64.log"; exit 1; }
  touch "$root/.debootstrapped"
fi
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
[ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/pip.conf"

in_root() {
  # shellcheck disable=SC2016
  unshare --mount --pid --fork --propagation private bash -c '
    root=$1; shift; mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"
    exec chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} "$@"' \
    in_root "$root" "$@"
}

# The wheel, the inputs, and what this machine makes of them.
rm -rf "$root/opt/test"
mkdir -p "$root/opt/test/source/models"
cp -r "$repository"/{edge_classifierd,pyproject.toml,README.md,LICENSE} "$root/opt/test/source/"
cp "$repository"/models/{README.md,*.tflite} "$root/opt/test/source/models/"
cp "$repository/models/efficientnet_lite0_int8.tflite" "$root/opt/test/model.tflite"
cp "$here/aarch64_scores.py" "$root/opt/test/"
"$python" -m pip wheel -q --no-deps --wheel-dir "$root/opt/test" "$root/opt/test/source"
"$python" "$here/aarch64_scores.py" make "$root/opt/test" "$repository/edge_classifierd/demo_photos"

failures=0
check() { # SENTENCE COMMAND…
  local sentence=$1
  shift
  if "$@"; then echo "ok      $sentence"; else
    echo "FAILED  $sentence"
    failures=$((failures + 1))
  fi
}
# shellcheck disable=SC2016
install_wheel() { # VENV
  in_root bash -c 'set -e; [ -x "$1/bin/python" ] || python3 -m venv "$1"; "$1/bin/pip" install -q --prefer-binary --force-reinstall --no-deps /opt/test/*.whl; "$1/bin/pip" install -q --prefer-binary "$(ls /opt/test/*.whl)[demo]"' x "$1"
}
tflite_only() {
  in_root bash -c 'set -e; /opt/tflite/bin/pip uninstall -q -y ai-edge-litert; /opt/tflite/bin/pip install -q --prefer-binary "tflite-runtime>=2.14" "numpy<2"'
}
demo_shows_events() { # VENV
  in_root timeout 300 "$1/bin/edge-classifierd" demo --for 60 --json >"$root/opt/test/events" && grep -q '"type": *"detected"' "$root/opt/test/events"
}
for runtime in litert tflite; do
  check "$runtime: the wheel installs on $(in_root uname -m)" install_wheel "/opt/$runtime"
  if [ $runtime = tflite ]; then check "tflite: with tflite-runtime instead of LiteRT" tflite_only; fi
  check "$runtime: the scores are this machine's" in_root "/opt/$runtime/bin/python" /opt/test/aarch64_scores.py compare /opt/test
  check "$runtime: demo shows events" demo_shows_events "/opt/$runtime"
done
[ $failures -eq 0 ]
