#!/usr/bin/env bash
# run.sh [SUITE…] (default: trixie bookworm): the whole service on a booted Debian: installed by install.sh from a clean
# checkout, under its real unit, against a real mosquitto; on trixie with the real picamera2 on libcamera's virtual camera.
# Needs root, debootstrap and systemd-nspawn; without them it says why and ends with 77. COMMIT=… tests another commit.
# WORKTREE=1 tests the files as they are instead of a commit.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(trixie bookworm)

skip() {
  echo "system tests skipped: $1" >&2
  exit 77
}
[ "$(id -u)" -eq 0 ] || skip "they need root"
for tool in debootstrap systemd-nspawn nsenter unshare; do
  command -v "$tool" >/dev/null || skip "$tool is not installed"
done

leader=
nspawn=
run=

down() {
  if [ -n "$leader" ]; then nsenter -t "$leader" -a systemctl poweroff 2>/dev/null || true; fi
  if [ -n "$nspawn" ]; then wait "$nspawn" 2>/dev/null || true; fi
  leader='' nspawn=''
  [ -z "$run" ] || rm -rf --one-file-system "$run"
  run=
}
trap down EXIT

boot() { # ROOT: without a network of its own but loopback, and without telling this machine's systemd
  systemd-nspawn --quiet -D "$1" --register=no --keep-unit --private-network --boot --console=pipe \
    </dev/null >"$1.console" 2>&1 &
  nspawn=$!
  for _ in $(seq 300); do
    leader=$(pgrep -P "$nspawn" | head -n 1 || true)
    if [ -n "$leader" ] && nsenter -t "$leader" -a systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; then return; fi
    sleep 0.1
  done
  echo "the container did not boot:" >&2
  tail -n 20 "$1.console" >&2
  exit 1
}

failed=()
for suite in "${suites[@]}"; do
  begun=$SECONDS
  root=$("$here/root.sh" "$suite")
  run=$root-run-$$
  cp -a --reflink=auto "$root" "$run"
  mkdir -p "$run/root/edge-classifierd"
  if [ -n "${WORKTREE:-}" ]; then
    git -C "$repository" ls-files -z --cached --others --exclude-standard | (cd "$repository" && xargs -0 tar -c --ignore-failed-read 2>/dev/null) | tar -x -C "$run/root/edge-classifierd"
  else
    git -C "$repository" archive "${COMMIT:-HEAD}" | tar -x -C "$run/root/edge-classifierd"
  fi
  cp "$here/scenario.sh" "$run/root/scenario.sh"
  echo "=== $suite"
  boot "$run"
  nsenter -t "$leader" -a /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM=dumb \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PIP_FIND_LINKS=/opt/wheels PIP_NO_INDEX=1 \
    bash /root/scenario.sh "$suite" || failed+=("$suite")
  down
  echo "=== $suite: $((SECONDS - begun)) s"
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
