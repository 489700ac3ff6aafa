#!/usr/bin/env bash
# scenario.sh SUITE: run by run.sh inside the booted container; one line for each thing that must hold.
set -uo pipefail
suite=$1
# shellcheck source=tests/system/checks.bash
. "$(dirname "$0")/checks.bash"
snapshot() { # what the file system holds, without what changes by itself, and the copies that useradd makes of /etc/passwd
  find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /root -o -path /var/log \
    -o -path /opt/wheels -o -path /opt/camera -o -path /var/tmp -o -path /var/cache -o -path '/var/lib/systemd' -o -path /var/lib/mosquitto \
    -o -path /etc/credstore -o -path '/etc/*-' -o -path /etc/.pwd.lock -o -name __pycache__ \) -prune -o -print | sort
}

# ---------------------------------------------------------------- a broker with a password, and a subscriber
broker_with_password
systemctl stop '*.timer' # Debian's own jobs write files at midnight: /var/backups, the lists of apt
snapshot >/root/before
groups_before=$(sort /etc/group | cut -d: -f1)
systemctl start mosquitto
collect_events watcher

# ---------------------------------------------------------------- installing
cd "$checkout" || exit 1
check "a dry run names what it would do" ./install.sh --dry-run
check "and does none of it" diff <(snapshot) /root/before
install_first() { ./install.sh "$@" >/root/install.log 2>&1 || { cat /root/install.log && false; }; }
way=()
if [ "$suite" = bookworm ]; then # the way without a network: wheels made elsewhere
  check "a wheelhouse is made" bash -c 'cp -r /root/edge-classifierd /root/elsewhere && /opt/build/venv/bin/pip wheel -q --no-deps --wheel-dir /opt/wheels /root/elsewhere && rm -r /root/elsewhere'
  way=(--wheels /opt/wheels)
  check "install.sh --wheels brings the service from a clean checkout to ready" install_first "${way[@]}"
else
  check "install.sh brings the service from a clean checkout to ready" install_first
fi
reported() { grep -q -- "$1" /root/install.log; }
check "it names what it did not find" reported 'no camera found: the configuration waits for a USB camera'
check "it says that not everything works" reported 'is running, but not everything works'
check "it lists the model as working" grep -Eqz 'Works:.*model camera: .*Does not work:' /root/install.log
check "it lists camera and broker as not working" grep -Eqz 'Does not work:.*broker: .*camera camera: /dev/video0: no such device' /root/install.log
check "it ends with the next command" reported "^Next: sudoedit $config && sudo systemctl restart edge-classifierd"
check "it left the checkout as it was" bash -c '! find . -newer /root/before -not -name __pycache__ -type f | grep -q .'
check "it is running" active
check "it is enabled" systemctl is-enabled "$unit"
check "the first configuration is valid" edge-classifierd check
check "numpy is the system's" bash -c '/opt/edge-classifierd/venv/bin/python -c "import numpy; assert numpy.__file__.startswith(\"/usr/lib/python3\"), numpy.__file__"'
# shellcheck disable=SC2016
check "systemd-analyze verify is silent" bash -c 'test -z "$(systemd-analyze verify edge-classifierd.service 2>&1)"'
exposure=$(SYSTEMD_COLORS=0 systemd-analyze security "$unit" --no-pager 2>/dev/null | grep -o 'Overall exposure.*' | grep -oE '[0-9]+\.[0-9]+')
check "systemd-analyze security: $exposure is at most 1.5" awk -v seen="$exposure" 'BEGIN { exit !(seen != "" && seen <= 1.5) }'
venv=$(readlink /opt/edge-classifierd/venv)
run_again() { SUDO_USER=games ./install.sh "${way[@]}" >/root/again.log 2>&1 && grep 'already installed' /root/again.log; }
check "install.sh can be run again, and finds everything there" run_again
check "the account that called sudo joins the service's group" grep -qw edge-classifierd <(id -nG games)
check "in the same virtual environment" test "$(readlink /opt/edge-classifierd/venv)" = "$venv"

# ---------------------------------------------------------------- a configuration that makes events
mkdir -p "/etc/systemd/system/$unit.d"
# The watchdog's real interval of 60 s is too long for a test.
printf '[Service]\nWatchdogSec=6\n' >"/etc/systemd/system/$unit.d/50-test.conf"
photos=$(echo /opt/edge-classifierd/venv/lib/python3*/site-packages/edge_classifierd/demo_photos)
if [ "$suite" = trixie ]; then
  # First the colours, by our source alone; then photographs for the classifier.
  /opt/edge-classifierd/venv/bin/python - <<'P'
import av, numpy as np
from pathlib import Path
picture = np.zeros((720, 1280, 3), np.uint8)
picture[:, :640], picture[:360, 640:], picture[360:, 640:] = (220, 30, 30), (30, 180, 30), (30, 30, 220)
av.VideoFrame.from_ndarray(picture, "rgb24").save("/opt/camera/frames/0.jpg")
P
  check "the colours of the virtual camera are where they belong" env PYTHONPATH=/opt/camera LD_PRELOAD=/opt/camera/dmabuf.so \
    LIBCAMERA_LOG_LEVELS='*:ERROR' timeout 60 /opt/edge-classifierd/venv/bin/python /opt/camera/colours.py
  /opt/edge-classifierd/venv/bin/python - "$photos" <<'P'
import sys
from pathlib import Path
import av
photos = sorted(path for path in Path(sys.argv[1]).iterdir() if path.suffix in {".jpg", ".jpeg"})[:2]
for number, photo in enumerate(photos):
    frame = next(av.open(str(photo)).decode(video=0))
    frame.reformat(1280, 720, "yuvj420p").save(f"/opt/camera/frames/{number}.jpg")
P
  cat >>"/etc/systemd/system/$unit.d/50-test.conf" <<'C'
Environment=LD_PRELOAD=/opt/camera/dmabuf.so PYTHONPATH=/opt/camera
C
  source='{type: picamera2, camera: imx708, width: 1280, height: 720, fps: 7, stall_timeout: 3s}'
  # libcamera looks for the virtual camera once in a process's life (for real ones again): both ways take a restart.
  lose_camera() { mv /usr/share/libcamera/pipeline/virtual/virtual.yaml /root/ && systemctl restart "$unit"; }
  find_camera() { mv /root/virtual.yaml /usr/share/libcamera/pipeline/virtual/ && systemctl restart "$unit"; }
else
  cp "$photos"/{cat,rocket}.jpg /root/
  find_camera() {
    python3 /root/network_camera.py 8090 /root/cat.jpg /root/rocket.jpg &
    camera=$!
  }
  lose_camera() { kill "$camera"; }
  find_camera
  source='{type: stream, url: "http://127.0.0.1:8090/", stall_timeout: 3s}'
fi
mkdir -p /etc/credstore
printf 's3cret\n' >/etc/credstore/edge-classifierd.mqtt_password
chmod 600 /etc/credstore/edge-classifierd.mqtt_password
cat >$config <<C
device: {id: porch}
mqtt: {host: 127.0.0.1, username: edge, password: !credential mqtt_password}
pipelines:
  - name: garden
    source: $source
    watches: [{name: any, labels: ["*"], threshold: 0.3, release: 0.2}, {name: cat, labels: ["*cat*"], threshold: 0.4}]
    collect: {enabled: true, when: [detected], interval: 1s}
C
systemctl daemon-reload
check "it starts with this configuration" systemctl restart "$unit"
ready() { echo $((($(property ActiveEnterTimestampMonotonic) - $(property ExecMainStartTimestampMonotonic)) / 1000)); }
ready_ms=$(ready)
for _ in 1 2; do # the best of three: others use this machine too
  systemctl restart "$unit"
  [ "$(ready)" -ge "$ready_ms" ] || ready_ms=$(ready)
done
check "ready $ready_ms ms after the process was started, at most $((1500 * slack))" test "$ready_ms" -le $((1500 * slack))
check "it logs in with the credential, classifies and publishes events" within 20 more_events 3
resident_kb() { awk "/^$1:/ { print \$2 }" "/proc/$(property MainPID)/status"; }
libraries_left() {
  echo "of files $(resident_kb RssFile) kB, of its own $(resident_kb RssAnon) kB"
  [ $((2 * $(resident_kb RssFile))) -lt "$(resident_kb RssAnon)" ]
}
check "what only starting needed of the libraries has left the memory" within 10 libraries_left
status_is() { grep -qE "^$1\$" <<<"$(property StatusText)"; }
first_status=$(property StatusText)
check "its status is in plain words: $first_status" status_is '1 pipeline, (starting|[0-9.]+ fps), connect(ed|ing) to 127.0.0.1:1883'
check "and tells the rate once that is known" within 15 status_is '1 pipeline, ([1-9][0-9]*\.[0-9]|0\.[1-9]) fps, connected to 127.0.0.1:1883'

# ---------------------------------------------------------------- what it may do
pid=$(property MainPID)
# shellcheck disable=SC2016
{
check "it runs as its own user without capabilities, confined" bash -c '
  [ "$(stat -c %U /proc/'"$pid"')" = edge-classifierd ] && grep -q "^CapEff:.0*$" /proc/'"$pid"'/status &&
  grep -q "^NoNewPrivs:.1" /proc/'"$pid"'/status && grep -q "^Seccomp:.2" /proc/'"$pid"'/status'
check "in the groups of cameras and Edge TPUs" bash -c 'id -nG edge-classifierd | grep video | grep render | grep -q plugdev'
check "it sees a read-only system" bash -c '! nsenter -t '"$pid"' -m touch /etc/x && ! nsenter -t '"$pid"' -m touch /opt/x'
}
check "others cannot read its configuration, its events or the password" bash -c "
  ! setpriv --reuid nobody --clear-groups cat $config && ! setpriv --reuid nobody --clear-groups ls /var/lib/edge-classifierd &&
  ! setpriv --reuid edge-classifierd --clear-groups cat /etc/credstore/edge-classifierd.mqtt_password"

# ---------------------------------------------------------------- what it leaves for others to read
collected=/var/lib/edge-classifierd/collected/garden
a_picture() { find "$collected" -name '*.jpg' | grep -q .; }
as_member() { setpriv --reuid games --regid games --groups "games,$(getent group edge-classifierd | cut -d: -f3)" "$@"; }
check "pictures are collected" within 20 a_picture
# shellcheck disable=SC2016
check "files have the mode 0640 and folders 0750, under the unit's own umask" bash -c '
  ! find '"${collected%/*}"' ! -path "*/.*" -printf "%y %m\n" | grep -vx -e "f 640" -e "d 750"'
# shellcheck disable=SC2016
check "a member of its group can read them" as_member bash -c 'find '"$collected"' -name "*.jpg" -exec cat {} + | grep -q .'
health=/run/edge-classifierd/health.json
check "its health is there for root and its group" test "$(stat -c '%a %U %G' "$health")" = '640 edge-classifierd edge-classifierd'
doctor_finds() { edge-classifierd doctor >/root/doctor.log 2>&1; cat /root/doctor.log; grep -q -- "$1" /root/doctor.log; }
check "the doctor reads from it that the camera works" doctor_finds '^ok *camera garden: '

# ---------------------------------------------------------------- dying and hanging
seen=$(event_count)
kill -9 "$pid"
begun=$(date +%s%N)
check "after kill -9 it is back within $((5 * slack)) s" within 5 other_process "$pid"
echo "        ($((($(date +%s%N) - begun) / 1000000)) ms)"
check "and goes on with its events" within 20 more_events $((seen + 3))
check "none is lost" none_lost
pid=$(property MainPID)
kill -STOP "$pid"
check "stopped in its tracks it is killed by the watchdog and restarted" within 25 other_process "$pid"
check "the journal says so" said "Watchdog timeout"
seen=$(event_count)
check "and it goes on" within 20 more_events $((seen + 3))
pid=$(property MainPID)
systemctl stop mosquitto
sleep 8
check "without a broker it lives: longer than the watchdog waits" test "$(property MainPID)" = "$pid"
check "and its status says so: $(property StatusText)" status_is '.* fps, reconnecting: .*'
check "and so does its health" grep -q '"connected_since_s":null' $health
check "and the doctor, which knows of the camera all the same" doctor_finds '^ok *camera garden: '
check "in these words" grep -q '^failed *daemon: process .* is not connected to the broker' /root/doctor.log
systemctl start mosquitto
sleep 1
collect_events watcher2
seen=$(event_count)
check "and delivers when the broker is back" within 40 more_events $((seen + 3))
lose_camera
pid=$(property MainPID)
sleep 12
check "without its camera it lives: longer than the watchdog waits" test "$(property MainPID)" = "$pid"
check "and its status says so: $(property StatusText)" status_is '1 pipeline, .*, no frames from garden, connected to .*'
check "and so does the doctor" doctor_finds '^failed *camera garden: '
find_camera
seen=$(event_count)
check "and goes on when the camera is back" within 40 more_events $((seen + 3))
[ "$suite" = trixie ] || check "in the same process" test "$(property MainPID)" = "$pid"

# One stage of it frozen, as in a driver's call, while all others go on. With the unit's own interval: a stage has 15 s.
sed -i '/^WatchdogSec/d' "/etc/systemd/system/$unit.d/50-test.conf"
systemctl daemon-reload
systemctl restart "$unit"
watchdog_s=$(sed -n 's/^WatchdogSec=//p' "/etc/systemd/system/$unit")
freeze() { # THREAD STAGE
  local found begun frozen
  seen=$(event_count)
  check "it sees something" within 20 more_events $((seen + 2))
  pid=$(property MainPID)
  found=$(journal | grep -c "$2 has been stuck")
  python3 /root/freeze.py "$pid" "$1" >/root/freeze.log 2>&1 &
  frozen=$!
  begun=$(date +%s%N)
  check "its thread '$1' alone is frozen" within 30 grep -q '^frozen' /root/freeze.log
  check "the others go on and find out which stage it is" within 30 says_more_often "$2 has been stuck" "$found"
  check "systemd kills and restarts it within WatchdogSec, $((watchdog_s * slack)) s" within "$watchdog_s" other_process "$pid"
  echo "        ($((($(date +%s%N) - begun) / 1000000)) ms after the freezing; $(journal | grep "$2 has been stuck" | tail -n 1))"
  kill $frozen 2>/dev/null # it has ended, unless systemd did not do its work
  seen=$(event_count)
  check "it goes on with its events" within 20 more_events $((seen + 3))
  check "none is lost" none_lost
}
freeze infer-1 infer-1
# Unpaced: a stage that waits for the time of its next picture is not stuck. Inference then never rests long enough.
sed -i 's/fps: 7/fps: null/' $config
systemctl restart "$unit"
freeze 'capture garden' capture-garden
sed -i 's/fps: null/fps: 7/' $config

# ---------------------------------------------------------------- reloading
pid=$(property MainPID)
reloads=$(journal | grep -c 'config.yaml: reloaded')
sed -i 's/threshold: 0.3,/threshold: 0.35,/' $config
check "a good configuration is reloaded" systemctl reload "$unit"
check "and is in use" within 5 says_more_often 'config.yaml: reloaded' "$reloads"
sed -i 's/threshold: 0.35,/threshold: 7,/' $config
systemctl reload "$unit"
check "a bad one is refused with its place" within 5 said 'config.yaml:6:.*pipelines\[0\].watches\[0\].threshold'
check "changes nothing" within 5 said 'not reloaded; the previous configuration stays active'
seen=$(event_count)
check "and the same process goes on" bash -c "[ $(property MainPID) = $pid ]"
check "publishing" within 20 more_events "$seen"
sed -i 's/threshold: 7,/threshold: 0.3,/' $config

# ---------------------------------------------------------------- as many pipelines as a configuration may have
late=/var/lib/edge-classifierd/late
cp $config /root/config.few
{
  printf 'device: {id: porch}\nmqtt: {host: 127.0.0.1, username: edge, password: !credential mqtt_password}\npipelines:\n'
  for number in $(seq 63); do
    printf '  - {name: p%s, source: {type: folder, path: %s, fps: 0.2, loop: true}}\n' "$number" "$photos"
  done
  printf '  - {name: p64, source: {type: folder, path: %s, fps: 0.2, loop: true}}\n' $late
} >/root/config.many
cp /root/config.many $config
online() { # COUNT
  local found
  found=$(mosquitto_sub -h 127.0.0.1 -u edge -P s3cret -t 'edge-classifierd/porch/+/status' -v -W 1 | grep -c '/p[0-9]*/status online$')
  echo "$found online"
  [ "$found" -eq "$1" ]
}
check "check: the file is right, but one of 64 pipelines could not start now" bash -c 'edge-classifierd check; [ $? -eq 1 ]'
check "the service starts with it" systemctl restart "$unit"
pid=$(property MainPID)
check "63 pipelines come online" within 120 online 63
check "the last one says why it does not" within 10 said 'p64: .*late: no such folder'
install -d -o edge-classifierd $late
cp "$photos"/*.jpg $late
check "and comes online when its folder is there" within 60 online 64
threads=$(awk '/^Threads:/ { print $2 }' "/proc/$pid/status")
check "its $threads threads are at most 90, with a thread for each camera" test "$threads" -le 90
check "which is less than half of what the unit allows" test $((2 * threads)) -lt "$(property TasksMax)"
check "in the same process" test "$(property MainPID)" = "$pid"
cp /root/config.few $config
rm -r $late
check "it goes back to few" systemctl restart "$unit"

# ---------------------------------------------------------------- upgrading
venv=$(readlink /opt/edge-classifierd/venv)
cp $config /root/config.kept
cp -r "$checkout" /root/broken
printf '\nraise SystemExit("broken on purpose")\n' >>/root/broken/edge_classifierd/cli/run.py
printf '\n# changed\n' >>/root/broken/systemd/edge-classifierd.service
check "an upgrade that does not start fails and says so" bash -c '! /root/broken/install.sh --upgrade >/root/upgrade.log 2>&1 && grep -q "the upgrade was taken back" /root/upgrade.log'
cp -r "$checkout" /root/no-runtime
printf '\nraise ImportError("broken on purpose")\n' >>/root/no-runtime/edge_classifierd/inference/cpu.py
check "nor is one kept whose runtime does not work" bash -c '! /root/no-runtime/install.sh --upgrade >/root/upgrade.log 2>&1 && grep -q "the upgrade was taken back" /root/upgrade.log'
check "the version from before runs" bash -c "[ $(readlink /opt/edge-classifierd/venv) = $venv ] && systemctl is-active $unit"
check "with its own unit" cmp "$checkout/systemd/edge-classifierd.service" "/etc/systemd/system/$unit"
seen=$(event_count)
check "and publishes" within 20 more_events "$seen"
cp -r "$checkout" /root/newer
sed -i 's/^__version__ = .*/__version__ = "9.9.9"/' /root/newer/edge_classifierd/__init__.py
# shellcheck disable=SC2016
check "an upgrade that starts is kept, and names the old and the new version" bash -c '/root/newer/install.sh --upgrade 2>&1 | tee /root/upgrade.log; grep -Eq "^Upgraded from [0-9]+\.[0-9.]+.* to 9\.9\.9" /root/upgrade.log'
check "with the configuration" cmp $config /root/config.kept
check "and one virtual environment" test "$(find /opt/edge-classifierd -maxdepth 1 -name 'venv-*' | wc -l)" -eq 1
check "which is another" test "$(readlink /opt/edge-classifierd/venv)" != "$venv"
seen=$(event_count)
check "events go on from where they were" within 20 more_events "$seen"
check "none is lost over all this" none_lost

# ---------------------------------------------------------------- stopping and leaving
begun=$(date +%s%N)
systemctl stop "$unit"
stop_ms=$((($(date +%s%N) - begun) / 1000000))
check "stopped $stop_ms ms after SIGTERM, at most $((2000 * slack))" test $stop_ms -le $((2000 * slack))
check "orderly" test "$(property Result)" = success
systemctl start "$unit"
check "uninstalling keeps configuration and events" bash -c "./install.sh --uninstall && test -e $config && test -e /var/lib/edge-classifierd/outbox.sqlite3 && ! test -e /opt/edge-classifierd"
install_page() { ./install.sh --web "${way[@]}" 2>/root/page.log || { cat /root/page.log && false; }; }
check "installing again takes them up, and --web switches the page on" install_page
page_answers() { # PATH PASSWORD [METHOD]: the page's answer to a script
  python3 - "$@" <<'P'
import base64, sys, urllib.request
path, password, *method = sys.argv[1:]
known = {"Authorization": "Basic " + base64.b64encode(f":{password}".encode()).decode()}
request = urllib.request.Request(f"http://127.0.0.1:8480/{path}", headers=known, method=method[0] if method else "GET")
print(urllib.request.urlopen(request, timeout=120).read().decode())
P
}
password=$(sed -n 's/^Its password, shown only now: //p' /root/page.log)
check "the page answers under the unit's restrictions" within 10 page_answers healthz ""
check "the password that was shown opens it" page_answers api/overview "$password"
check "no other does" bash -c "$(declare -f page_answers); ! page_answers api/overview wrong-password"
doctor_on_page() { page_answers api/doctor "$password" POST >/root/doctor.json && cat /root/doctor.json && grep -q '"name":"camera garden"' /root/doctor.json; }
check "the doctor's checks run on the page" doctor_on_page
check "the last events are on the page" bash -c "$(declare -f page_answers); page_answers api/events '$password' | grep -q event_id"
check "events prints them beside the running daemon" bash -c 'edge-classifierd events -n 3 | grep -c garden | grep -qx 3'
second=$(edge-classifierd web password 2>/root/second.log)
check "a new password opens it" within 10 page_answers api/overview "$second"
check "the one from before does not any more" bash -c "$(declare -f page_answers); ! page_answers api/overview '$password'"
check "neither is in the journal" bash -c "! journalctl -o cat --no-pager | grep -qF -e '${password:-none was shown}' -e '${second:-none was shown}'"

# ---------------------------------------------------------------- the roll-out of a model
mkdir /root/models
cp "$checkout/models/efficientnet_lite2_int8.tflite" /root/models/rolled_out.tflite
sha256=$(sha256sum /root/models/rolled_out.tflite | cut -d' ' -f1)
python3 -m http.server --bind 127.0.0.1 --directory /root/models 8091 >/root/models.log 2>&1 &
models=$!
cp $config /root/config.kept
pid=$(property MainPID)
roll_out() { # FILE SHA256
  sed "/name: garden/a\\    model: {url: \"http://127.0.0.1:8091/$1\", sha256: $2}" /root/config.kept >$config
  systemctl reload "$unit"
}
roll_out missing.tflite "${sha256//[0-9]/0}"
check "a model that cannot be fetched is a reason in health" within 20 grep -q 'missing.tflite' $health
seen=$(event_count)
check "while the old one goes on" within 20 more_events "$seen"
roll_out rolled_out.tflite "$sha256"
check "a model is fetched, verified and used under the unit's restrictions" within 60 grep -q "\"sha256\":\"$sha256\"" $health
seen=$(event_count)
check "it makes events" within 20 more_events "$seen"
check "in the same process" test "$(property MainPID)" = "$pid"
kill "$models"
cp /root/config.kept $config
systemctl reload "$unit"

# ---------------------------------------------------------------- a training, in a child of the confined service
teach() { PYTHONPATH=$checkout/tests timeout $((90 * slack)) /opt/edge-classifierd/venv/bin/python "$checkout/tests/system/teach.py" "$second" "$@"; }
child() { pgrep -f '[e]dge_classifierd.teaching.training.child'; }
last_in_line() { # the kernel's own words about the child
  local found
  found=$(child) && ps -o ni=,user= -p "$found" && grep -H . "/proc/$found/oom_score_adj" && grep Seccomp: "/proc/$found/status" &&
    [ "$(ps -o ni= -p "$found" | tr -d ' ')" = 19 ] && [ "$(cat "/proc/$found/oom_score_adj")" = 1000 ] && grep -q '^Seccomp:.2' "/proc/$found/status"
}
ends() { teach wait "$training" | tee /dev/stderr | grep -q -- "$1"; }
check "shapes are taught on the page" teach prepare
training=$(teach begin)
check "a training has the lowest priority, and the kernel ends it first" within 20 last_in_line
check "it comes to its end under the unit's restrictions" ends '^finished'
check "with a version" test -s /var/lib/edge-classifierd/taught/shapes/versions/1/model.tflite
pid=$(property MainPID)
training=$(teach begin)
check "another one begins" within 20 last_in_line
kill -9 "$(child)" # as the kernel does
check "killed, it fails for want of memory" ends '^failed: .*for want of memory'
seen=$(event_count)
check "the daemon goes on" within 20 more_events "$seen"
check "in the same process" test "$(property MainPID)" = "$pid"
check "as it does when the kernel has killed it" test "$(property OOMPolicy)" = continue
check "uninstalling with --purge" ./install.sh --uninstall --purge
check "leaves no password behind" bash -c '! ls /etc/credstore/edge-classifierd.* 2>/dev/null'
check "leaves no file behind" diff <(snapshot) /root/before
check "and no user" bash -c '! getent passwd edge-classifierd && ! getent group edge-classifierd'
check "nor a process" bash -c '! pgrep -f "[e]dge-classifierd/venv"'
left=$(comm -13 <(echo "$groups_before") <(sort /etc/group | cut -d: -f1) | tr '\n' ' ')
echo "        (groups left: ${left:-none})"
verdict
