#!/usr/bin/env bash
# out_of_memory_guest.sh: run by out_of_memory.sh inside the virtual machine; one line for each thing that must hold.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/checks.bash
. "$here/checks.bash"
group=/sys/fs/cgroup/system.slice/$unit
password=taught-here

broker_with_password
systemctl start mosquitto
collect_events watcher
cd "$checkout" || exit 1
install_service() { ./install.sh >/root/install.log 2>&1 || { cat /root/install.log && false; }; }
check "the service is installed" install_service
systemctl stop "$unit"
mkdir -p /etc/credstore "/etc/systemd/system/$unit.d" /srv/pictures
cp edge_classifierd/demo_photos/{cat,rocket}.jpg /srv/pictures/
printf 's3cret\n' >/etc/credstore/edge-classifierd.mqtt_password
printf '%s\n' "$password" >/etc/credstore/edge-classifierd.web_password
cat >$config <<C
device: {id: porch}
mqtt: {host: 127.0.0.1, username: edge, password: !credential mqtt_password}
web: {listen: "127.0.0.1:8480", password: !credential web_password}
pipelines:
  - name: garden
    source: {type: folder, path: /srv/pictures, fps: 1, loop: true}
    watches: [{name: cat, labels: ["*cat*"], threshold: 0.3, release: 0.2}]
C
# An emulated processor is slow.
printf '[Service]\nTimeoutStartSec=600\nWatchdogSec=600\n' >"/etc/systemd/system/$unit.d/50-test.conf"
[ -z "${OOM_POLICY:-}" ] || printf 'OOMPolicy=%s\n' "$OOM_POLICY" >>"/etc/systemd/system/$unit.d/50-test.conf"
systemctl daemon-reload
start() { systemctl start "$unit" || { journal | tail -n 5 && false; }; }
check "it starts with this configuration" start
seen=$(event_count)
check "events arrive" within 20 more_events "$seen"

teach() { PYTHONPATH=$checkout/tests timeout $((90 * slack)) /opt/edge-classifierd/venv/bin/python "$here/teach.py" "$password" "$@"; }
check "shapes are taught on the page" teach prepare
pid=$(property MainPID)
used=$(awk '/^anon / { print $2 }' "$group/memory.stat")
training=$(teach begin) # the page refuses one for which there is no memory, so the limit comes after its beginning
check "the memory of the service is limited to 50 MB more than its $((used / 1000000)) MB" systemctl set-property --runtime "$unit" MemoryMax=$((used + 50000000))
failed_of_memory() { teach wait "$training" | tee /dev/stderr | grep -q '^failed: .*for want of memory'; }
check "the training fails for want of memory" failed_of_memory
killed() { grep -E '^oom_kill [1-9]' "$group/memory.events" && journalctl -k -o cat --no-pager | grep 'Memory cgroup out of memory: Killed process'; }
check "because the kernel has killed a process" killed
check "the child, not the daemon" bash -c "! journalctl -k -o cat --no-pager | grep 'Killed process $pid '"
check "systemd has seen it" within 10 said 'killed by the OOM killer'
check "the service is active" active
check "in the same process" test "$(property MainPID)" = "$pid"
seen=$(event_count)
check "its events arrive" within 20 more_events "$seen"
systemctl set-property --runtime "$unit" MemoryMax=75%
training=$(teach begin)
finished() { teach wait "$training" | tee /dev/stderr | grep -q '^finished'; }
check "with memory again, a training comes to its end" finished
journalctl -k -o cat --no-pager | grep -E 'oom-kill|Killed process' | cut -c 1-160 | sed 's/^/        /'
journalctl -u "$unit" -o cat --no-pager | grep -i 'OOM' | sed 's/^/        /'
verdict
