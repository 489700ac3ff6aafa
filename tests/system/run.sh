#!/usr/bin/env bash
# run.sh [SUITE…] (default: trixie bookworm): the whole service on a booted Debian: installed by install.sh
# from a clean checkout, under its real unit, against a real mosquitto; on trixie with the real picamera2 on libcamera's
# virtual camera. The suite `operations` does what docs/operations.md shows: a fleet by cloud-init and by Ansible, encrypted
# credentials, a backup brought back, a read-only root. The suite `training` measures what a training takes from the service.
# Needs root, debootstrap and systemd-nspawn, a Debian mirror and room for a container; without them it says why and ends
# with 77. The first run builds the Debians (a minute or two each).
# COMMIT=… tests another commit, WORKTREE=1 the files as they are. A suite that takes longer than $LIMIT s (900) has failed.
# SLACK=N gives everything N times the time that it is allowed, on a machine that others use too.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
limit=${LIMIT:-900}

skip() {
  echo "system tests skipped: $1" >&2
  exit 77
}
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(trixie bookworm)
[ "$(id -u)" -eq 0 ] || skip "they need root"
for tool in debootstrap systemd-nspawn unshare setpriv; do
  command -v "$tool" >/dev/null || skip "$tool is not installed"
done
for suite in "${suites[@]}"; do
  root=$("$here/root.sh" "$suite") || skip "no Debian $suite can be built here"
  systemd-nspawn --quiet -D "$root" --register=no --keep-unit --private-network --pipe /bin/true </dev/null || skip "no container can be started here"
done

nspawn=
run=

down() {
  if [ -n "$nspawn" ] && kill "$nspawn" 2>/dev/null; then # an orderly power-off
    for _ in $(seq 150); do
      kill -0 "$nspawn" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$nspawn" 2>/dev/null || true
  fi
  nspawn=
  [ -z "$run" ] || rm -rf --one-file-system "$run" "$run.console"
  run=
}
trap down EXIT
trap 'exit 1' INT TERM HUP

# What an earlier run, killed in its tracks, has left.
remove_leftovers() { # ROOT
  local left
  for left in "$1"-run-*; do
    if [[ $left =~ -run-([0-9]+)(\.console)?$ ]] && ! kill -0 "${BASH_REMATCH[1]}" 2>/dev/null; then rm -rf --one-file-system "$left"; fi
  done
}

# The scenario is a service of the container, which powers itself off after it: nothing here reaches into a running one.
prepare() { # SUITE
  mkdir -p "$run/root/edge-classifierd"
  if [ -n "${WORKTREE:-}" ]; then
    git -C "$repository" ls-files -z --cached --others --exclude-standard | (cd "$repository" && xargs -0 tar -c --ignore-failed-read 2>/dev/null) | tar -x -C "$run/root/edge-classifierd"
  else
    git -C "$repository" archive "${COMMIT:-HEAD}" | tar -x -C "$run/root/edge-classifierd"
  fi
  cp "$here/checks.bash" "$here/scenario.sh" "$here/freeze.py" "$here/network_camera.py" "$run/root/"
  if [ -e "$here/$1.sh" ]; then cp "$here/$1.sh" "$run/root/scenario.sh"; fi
  if [ "$1" = operations ]; then prepare_operations; fi
  mkdir -p "$run/var/log/journal" # kept on the disk, so that it can be read from here
  : >"$run/root/scenario.log"
  cat >"$run/etc/systemd/system/scenario.service" <<UNIT
[Service]
Environment=HOME=/root LANG=C.UTF-8 TERM=dumb SLACK=${SLACK:-1} PIP_FIND_LINKS=/opt/wheels PIP_NO_INDEX=1
ExecStart=/bin/bash -c 'bash /root/scenario.sh $1; echo \$? >/root/scenario.status; systemctl poweroff --no-block'
StandardOutput=append:/root/scenario.log
StandardError=append:/root/scenario.log
UNIT
  mkdir -p "$run/etc/systemd/system/multi-user.target.wants"
  ln -sf ../scenario.service "$run/etc/systemd/system/multi-user.target.wants/"
}

# A repository to clone, and the recipes as the page shows them, but for the repository's address and version. cloud-init
# finds its recipe when the container boots.
prepare_operations() {
  local git=(git -C "$run/root/edge-classifierd" -c user.name=test -c user.email=test@example.org)
  { "${git[@]}" init -q && "${git[@]}" add -A && "${git[@]}" commit -q -m tested && "${git[@]}" tag v1.0.0; } >&2
  mkdir -p "$run/var/lib/cloud/seed/nocloud"
  printf 'instance-id: test\nlocal-hostname: camera-7\n' >"$run/var/lib/cloud/seed/nocloud/meta-data"
  python3 - "$repository/docs/operations.md" "$run/var/lib/cloud/seed/nocloud/user-data" "$run/root/playbook.yaml" <<'P'
import re, sys
from pathlib import Path

page, *targets = map(Path, sys.argv[1:])
for target, recipe in zip(targets, re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S), strict=True):
    target.write_text(recipe.replace("https://git.example.org/edge-classifierd", "file:///root/edge-classifierd"))
P
  printf '[global]\nno-index = true\nfind-links = /opt/wheels\n' >"$run/etc/pip.conf"
}

# Boots with a network of loopback alone, and without telling this machine's systemd. When this script dies, it does, too.
follow() { # SUITE
  local begun=$SECONDS
  setpriv --pdeathsig TERM systemd-nspawn --quiet -D "$run" --register=no --keep-unit --private-network --boot --console=pipe \
    </dev/null >"$run.console" 2>&1 &
  nspawn=$!
  tail -n +1 -s 0.2 -f --pid="$nspawn" "$run/root/scenario.log" &
  while kill -0 "$nspawn" 2>/dev/null && [ $((SECONDS - begun)) -lt "$limit" ]; do sleep 0.2; done
  if kill -0 "$nspawn" 2>/dev/null; then
    echo "FAILED  not at its end after $limit s; the journal's end:"
    journalctl -D "$run/var/log/journal" -n 40 -o short-monotonic --no-pager 2>&1 || true
    return 1
  fi
  wait $! # tail: the last lines
  if [ ! -e "$run/root/scenario.status" ]; then
    echo "FAILED  the container did not boot, or ended too early:"
    tail -n 20 "$run.console"
    return 1
  fi
  [ "$(cat "$run/root/scenario.status")" = 0 ]
}

failed=()
for suite in "${suites[@]}"; do
  begun=$SECONDS
  root=$("$here/root.sh" "$suite")
  remove_leftovers "$root"
  run=$root-run-$$
  cp -a --reflink=auto "$root" "$run"
  prepare "$suite"
  echo "=== $suite"
  follow "$suite" || failed+=("$suite")
  down
  echo "=== $suite: $((SECONDS - begun)) s"
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
