#!/usr/bin/env bash
# container.sh [amd64|arm64]: builds the image of packaging/container on a Debian tree of root.sh and runs it read-only,
# without capabilities and in 256 MB: it classifies the bundled pictures 2 s after its start (the best of three starts, times
# $SLACK), its health check sees a part of the daemon that hangs, and SIGTERM ends it. Two to three minutes.
# buildah, podman and runc come from Debian's packages. Where podman cannot start a container, the image's tree is run with
# systemd-nspawn and a memory cgroup; RUN_IN=tree chooses that. The image for arm64 runs with qemu-user, where times and
# memory say nothing: it classifies one picture. Without root, debootstrap, buildah or a way to run it says why and ends with 77.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
architecture=${1:-amd64}
slack=${SLACK:-1}
base=docker.io/library/debian:trixie-slim # the name in the Containerfile
image=localhost/edge-classifierd
name=edge-classifierd-test-$$

skip() {
  echo "skipped: $1" >&2
  exit 77
}
[ "$(id -u)" -eq 0 ] || skip "the container test needs root"
missing=()
for tool in debootstrap buildah podman runc; do command -v "$tool" >/dev/null || missing+=("$tool"); done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get -q update >/dev/null 2>&1 || true
  apt-get -q -y install --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || skip "Debian's ${missing[*]} cannot be installed"
fi
tree=fresh-trixie
if [ "$architecture" = arm64 ]; then
  # shellcheck source=tests/system/arm64.bash
  . "$here/arm64.bash"
  reason=$(run_arm64) || skip "$reason"
  tree=fresh-trixie-arm64
fi
root=$("$here/root.sh" $tree) || skip "no Debian trixie can be built here"

work=$(mktemp -d /var/tmp/edge-classifierd-container-XXXXXX)
chmod 755 "$work"
storage=(--root "$work/storage" --runroot "$work/run")
mkdir -p "$work"/{configuration,run,state,storage}
grep -qw overlay /proc/filesystems && storage+=(--storage-driver overlay) || storage+=(--storage-driver vfs)
way=
nspawn=
pid=

buildah_() { buildah "${storage[@]}" "$@"; }
podman_() { podman "${storage[@]}" --cgroup-manager cgroupfs "${runtime[@]}" "$@" 2>>"$work/podman.log"; }
runtime=()

down() {
  [ "$way" != podman ] || podman_ rm --force --time 1 "$name" >/dev/null || true
  if [ "$way" = tree ]; then
    [ -z "$nspawn" ] || { kill -KILL "$pid" 2>/dev/null && wait "$nspawn"; } || true
    rmdir "$cgroup" 2>/dev/null || true
  fi
  buildah_ rm --all >/dev/null 2>&1 || true
  podman_ rmi --all --force >/dev/null 2>&1 || true
  umount -R "$work/storage/overlay" 2>/dev/null || true
  rm -rf --one-file-system "$work"
}
trap down EXIT
trap 'exit 1' INT TERM HUP

failures=0
check() { # SENTENCE COMMAND…
  local sentence=$1
  shift
  if "$@" >"$work/check.log" 2>&1; then echo "ok      $sentence"; else
    echo "FAILED  $sentence"
    tail -n 15 "$work/check.log" | sed 's/^/        /'
    failures=$((failures + 1))
  fi
}
within() { # SECONDS COMMAND…
  local end=$((SECONDS + $1 * slack))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}

# ---------------------------------------------------------------- build
build() {
  tar -C "$root" --exclude=./.stamp --exclude=./var/cache/apt/archives -c . | podman_ import --quiet --arch "$architecture" - "$base" &&
    git -C "$repository" ls-files -z --cached --others --exclude-standard | (cd "$repository" && tar -c --null --ignore-failed-read -T -) 2>/dev/null | tar -x -C "$work/context" &&
    buildah_ bud --quiet --arch "$architecture" --isolation chroot --format docker --pull-never --file "$work/context/packaging/container/Containerfile" --tag "$image" "$work/context"
}
mkdir "$work/context"
check "the image is built" build
[ $failures -eq 0 ] || exit 1
rm -r "$work/context"
echo "        $(buildah_ images --format '{{.Size}}' "$image"), of which the base is $(buildah_ images --format '{{.Size}}' "$base")"

# ---------------------------------------------------------------- run
limit_files=$(ulimit -Hn)
options=(--ulimit "nofile=$limit_files:$limit_files" --ulimit nproc=4096:4096 --network none --read-only --cap-drop=ALL
  --security-opt no-new-privileges)
if [ "$architecture" = arm64 ]; then
  options+=(--security-opt mask=/sys/devices/system/cpu) # LiteRT would read there of this machine's processors, and crash
else
  options+=(--memory 256m)
fi
if [ "${RUN_IN:-podman}" = podman ]; then
  for candidate in "" runc; do # crun refuses a machine with both versions of cgroups
    [ -z "$candidate" ] && runtime=() || runtime=(--runtime "$candidate")
    if podman_ run --rm "${options[@]}" --entrypoint /bin/true "$image"; then
      way=podman
      break
    fi
  done
fi
if [ -z "$way" ]; then
  [ "${RUN_IN:-}" = tree ] || { echo "podman cannot start a container here:" && tail -n 3 "$work/podman.log"; } >&2
  command -v systemd-nspawn >/dev/null || skip "podman cannot start a container here, and there is no systemd-nspawn"
  way=tree
  tree=$(buildah_ mount "$(buildah_ from --pull-never "$image")")
  cgroup=/sys/fs/cgroup/memory/$name limit=memory.limit_in_bytes
  [ -d /sys/fs/cgroup/memory ] || cgroup=/sys/fs/cgroup/$name limit=memory.max
  { mkdir -p "$cgroup" && echo $((256 * 1024 * 1024)) >"$cgroup/$limit"; } || skip "no memory cgroup can be made here"
fi
echo "        run with ${way/tree/systemd-nspawn in the tree of the image} ${runtime[*]}"

classifies_on_arm64() {
  podman_ run --rm "${options[@]}" --entrypoint /bin/sh "$image" -c 'uname -m; edge-classifierd classify /usr/share/edge-classifierd/demo_photos/cat.jpg 2>&1' >"$work/classified"
  grep -qx aarch64 "$work/classified" && grep -q 'Egyptian cat' "$work/classified"
}
if [ "$architecture" = arm64 ]; then
  [ "$way" = podman ] || skip "podman cannot start a container here"
  check "it classifies a bundled picture on arm64" classifies_on_arm64
  sed 's/^/        /' "$work/classified"
  exit $((failures > 0))
fi

cat >"$work/configuration/config.yaml" <<TEXT
device: {id: container}
mqtt: {host: 127.0.0.1, port: 1}
web: {}
pipelines:
  - name: photographs
    source: {type: folder, path: /usr/share/edge-classifierd/demo_photos, fps: 5, loop: true}
    watches: [{name: coffee, labels: [espresso], threshold: 0.5}]
TEXT
chown 8480 "$work/state"
start() {
  if [ $way = podman ]; then
    podman_ rm --force --time 1 "$name" >/dev/null 2>&1 || true
    podman_ run --detach --name "$name" "${options[@]}" --volume "$work/state:/var/lib/edge-classifierd" \
      --volume "$work/configuration:/etc/edge-classifierd:ro" "$image" >/dev/null
    pid=$(podman_ inspect --format '{{.State.Pid}}' "$name")
  else
    # shellcheck disable=SC2016
    bash -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' _ "$cgroup" \
      systemd-nspawn --quiet -D "$tree" --register=no --keep-unit --read-only --user edge-classifierd --drop-capability=all \
      --no-new-privileges=yes --private-network --bind "$work/state:/var/lib/edge-classifierd" --bind-ro "$work/configuration:/etc/edge-classifierd" \
      --setenv=PYTHONFAULTHANDLER=1 --pipe /usr/local/bin/edge-classifierd run --config /etc/edge-classifierd/config.yaml \
      </dev/null >"$work/daemon.log" 2>&1 &
    nspawn=$!
    within 10 inner_process
  fi
}
inner_process() { pid=$(pgrep -u 8480 -f '[e]dge-classifierd run' | head -n 1) && [ -n "$pid" ]; }
log() { if [ $way = podman ]; then podman "${storage[@]}" logs "$name" 2>&1; else cat "$work/daemon.log"; fi; }
ended_with() { # CODE: of a daemon that has ended
  if [ $way = podman ]; then
    [ "$(podman_ wait "$name")" = "$1" ]
  else
    local code=0
    wait "$nspawn" || code=$?
    nspawn=
    [ $code -eq "$1" ]
  fi
}
stop() { kill -TERM "$pid" && timeout 10 tail --pid="$pid" -f /dev/null && ended_with 0; }
health() { # healthy or unhealthy, after three looks: the retries of the image
  local verdict=healthy failed=0
  for _ in 1 2 3; do
    if [ $way = podman ]; then podman_ healthcheck run "$name" >/dev/null || true; else nsenter -t "$pid" -n chroot "$tree" "${health_command[@]}" || failed=$((failed + 1)); fi
  done
  [ $failed -lt 3 ] || verdict=unhealthy
  if [ $way = podman ]; then podman_ inspect --format '{{.State.Health.Status}}' "$name"; else echo $verdict; fi
}
mapfile -t health_command < <(buildah_ inspect --type image --format '{{range .Docker.Config.Healthcheck.Test}}{{.}}{{"\n"}}{{end}}' "$image" | sed '1d;/^$/d')
is() { [ "$(health 2>&1 | tail -n 1)" = "$1" ]; }
first_frame_s() { log | sed -n 's/.*first frame classified, \([0-9.]*\) s.*/\1/p' | tail -n 1; }
classifies() { [ -n "$(first_frame_s)" ]; }
answer() { nsenter -t "$pid" -n python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())' "http://127.0.0.1:8480/$1"; }
sees_coffee() { answer api/events | grep -q '"type":"detected".*"label":"espresso"'; }
status_of() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status"; }

best=
for round in 1 2 3; do
  check "start $round" start
  check "start $round: it classifies" within 20 classifies
  took=$(first_frame_s)
  best=$(printf '%s\n' ${best:+"$best"} "${took:-99}" | sort -n | head -n 1)
  echo "        the first picture was classified ${took:-never} s after the start"
  [ "$round" -eq 3 ] || check "SIGTERM ends it with code 0" stop
done
check "the best of them is at most 2 s x $slack" awk "BEGIN { exit !($best <= 2 * $slack) }"
check "a bundled picture becomes an event" within 20 sees_coffee
check "it runs as an ordinary user" test "$(status_of Uid | cut -f1)" = 8480
check "without capabilities" test "$(status_of CapBnd)" = 0000000000000000
check "on a read-only root" grep -qE '^[^ ]+ / [^ ]+ ro[, ]' "/proc/$pid/mounts"
check "its state is in the volume" test -s "$work/state/outbox.sqlite3"
check "it is healthy" is healthy
# As if a call into a driver never returned, with all other threads alive.
python3 "$here/freeze.py" "$pid" infer-1 >"$work/freeze.log" 2>&1 &
freezer=$!
check "a thread of the model is frozen" within 20 grep -q '^frozen' "$work/freeze.log"
check "it becomes unhealthy" within 60 is unhealthy
kill $freezer 2>/dev/null || true # the thread goes on
wait $freezer 2>/dev/null || true
check "and healthy again" within 30 is healthy
check "in 256 MB: $(status_of VmRSS) now, at most $(status_of VmHWM)" kill -0 "$pid"
check "SIGTERM ends it with code 0" stop
[ $failures -eq 0 ]
