#!/usr/bin/env bash
# measure.sh [SECONDS] (default 600): what the daemon costs a device while nothing happens: 10 frames a second, no events.
# Prints its writes to the disk (from /proc/PID/io: what it caused to be sent to the storage layer) and its log lines, both
# after the start. Needs mosquitto; runs as an ordinary process on this machine.
set -euo pipefail
seconds=${1:-600}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-$here/../../.venv/bin/python}
PATH=$PATH:/usr/sbin
command -v mosquitto >/dev/null || { echo "skipped: mosquitto is not installed" >&2; exit 77; }
work=$(mktemp -d -p "${MEASURE_DIR:-/var/tmp}")
broker='' daemon=''
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true; [ -z "$broker" ] || kill "$broker" 2>/dev/null || true; rm -rf "$work"' EXIT
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'listener %s 127.0.0.1\nallow_anonymous true\n' "$port" >"$work/mosquitto.conf"
mosquitto -c "$work/mosquitto.conf" 2>"$work/broker.log" &
broker=$!
mkdir "$work/pictures"
cp "$here/../../edge_classifierd/demo_photos/cat.jpg" "$work/pictures/"
cat >"$work/config.yaml" <<C
device: {id: measured}
mqtt: {host: 127.0.0.1, port: $port}
pipelines:
  - name: still
    source: {type: folder, path: pictures, fps: 10, loop: true}
    watches: [{name: never, labels: [hippopotamus], threshold: 0.99}]
C
EDGE_CLASSIFIERD_STATE=$work/state "$python" -m edge_classifierd run --config "$work/config.yaml" >"$work/log" 2>&1 &
daemon=$!
sleep 10
written() { awk '/^write_bytes/ { print $2 }' "/proc/$daemon/io"; }
before=$(written) lines=$(wc -l <"$work/log")
sleep "$seconds"
kill -0 "$daemon" || { cat "$work/log"; exit 1; }
bytes=$(($(written) - before)) said=$(($(wc -l <"$work/log") - lines))
echo "start-up wrote $((before / 1024)) KiB and $lines lines; then in $seconds s: $bytes bytes to disk ($((bytes * 86400 / seconds / 1024)) KiB a day), $said log lines ($((said * 3600 / seconds)) an hour)"
[ $((bytes * 600 / seconds)) -lt 1000000 ] && [ $((said * 3600 / seconds)) -lt 20 ]
