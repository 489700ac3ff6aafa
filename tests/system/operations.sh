#!/usr/bin/env bash
# operations.sh operations: run by run.sh inside the booted container: what docs/operations.md shows for fleets, secrets,
# backups and read-only systems. The recipes are the page's own; cloud-init has found its one when the container booted.
set -uo pipefail
# shellcheck source=tests/system/checks.bash
. "$(dirname "$0")/checks.bash"
secret=/etc/credstore/edge-classifierd.mqtt_password
mode_is() { [ "$(stat -c '%a %U' "$2")" = "$1" ]; }

# ---------------------------------------------------------------- cloud-init
check "cloud-init finds the recipe valid" cloud-init schema --config-file /var/lib/cloud/seed/nocloud/user-data
check "cloud-init comes to its end" timeout 300 cloud-init status --wait
check "without an error" bash -c 'cloud-init status --long; cloud-init status | grep -q "status: done"'
check "the service runs" within 30 active
check "with the configuration from the recipe" grep -q 'name: door' $config
check "which only root and the service can read" bash -c "[ \"\$(stat -c '%a %U %G' $config)\" = '640 root edge-classifierd' ]"
check "nor can others read the password" mode_is '600 root' "$secret"
check "or see it" mode_is '700 root' /etc/credstore
check "the device is called after its host" bash -c "edge-classifierd check 2>&1; journalctl -u $unit | grep -q camera-7"

# ---------------------------------------------------------------- encrypted credentials
broker_with_password
systemctl start mosquitto
collect_events watcher
photos=$(echo /opt/edge-classifierd/venv/lib/python3*/site-packages/edge_classifierd/demo_photos)
configure() { # FILE
  cat >"$1" <<C
device: {id: porch}
mqtt: {host: 127.0.0.1, username: edge, password: !credential mqtt_password}
pipelines:
  - name: door
    source: {type: folder, path: $photos, fps: 5, loop: true}
    watches: [{name: any, labels: ["*"], threshold: 0.3, release: 0.2}, {name: cat, labels: ["*cat*"], threshold: 0.4}]
C
}
configure $config
printf %s 's3cret' | install -m 600 /dev/stdin "$secret"
systemctl restart "$unit"
check "the password lets it in" within 20 more_events 3
rm "$secret"
mkdir -p /etc/credstore.encrypted
printf %s 's3cret' | systemd-creds encrypt --name=mqtt_password - /etc/credstore.encrypted/edge-classifierd.mqtt_password.cred
printf '[Service]\nLoadCredential=\nLoadCredentialEncrypted=mqtt_password:/etc/credstore.encrypted/edge-classifierd.mqtt_password.cred\n' |
  systemctl edit --stdin edge-classifierd
systemctl restart "$unit"
seen=$(event_count)
check "and so does the encrypted one" within 20 more_events $((seen + 3))
check "which nobody can read from the disk" bash -c '! grep -rq s3cret /etc/credstore /etc/credstore.encrypted /etc/edge-classifierd /var/lib/edge-classifierd'
check "the unit is still without complaints" bash -c "test -z \"\$(systemd-analyze verify $unit 2>&1)\""
check "the command line finds it, too" edge-classifierd check
check "and doctor logs in with it" bash -c 'edge-classifierd doctor | tee /dev/stderr | grep -q "^ok  *broker: .*logged in as edge"'

# ---------------------------------------------------------------- backup, and back on another system
systemctl stop "$unit"
tar -C / -czf /root/backup.tgz etc/edge-classifierd var/lib/edge-classifierd
systemctl start "$unit"
cd "$checkout" || exit 1
check "the system is lost" ./install.sh --uninstall --purge
check "with its secrets" bash -c '! compgen -G "/etc/credstore*/*"'
last=$(numbers | sort -n | tail -n 1)
useradd --system takes-the-number # the service's user gets another number than before
check "a new one is installed" ./install.sh
systemctl stop "$unit"
tar -C / -xzf /root/backup.tgz
printf %s 's3cret' | install -m 600 /dev/stdin "$secret"
seen=$(event_count)
check "it starts with what was kept" systemctl start "$unit"
check "and publishes" within 20 more_events $((seen + 3))
check "its numbers go on where the copy was taken" bash -c "[ $(tail -n 1 "$events" | grep -o '"seq": *[0-9]*' | grep -o '[0-9]*') -gt $((last - 200)) ]"

# ---------------------------------------------------------------- a read-only root, with the state in memory
systemctl stop "$unit"
for folder in /etc /opt /usr /var; do mount --bind "$folder" "$folder" && mount -o remount,bind,ro "$folder"; done
mount -t tmpfs -o size=64M tmpfs /var/lib/edge-classifierd
check "the system is read-only" bash -c '! touch /etc/x && ! touch /var/tmp/x && ! touch /opt/x'
seen=$(event_count)
check "the service starts there" systemctl start "$unit"
check "and publishes" within 20 more_events $((seen + 3))
check "it says that events do not survive a loss of power" said 'is kept in memory'
mosquitto_sub -h 127.0.0.1 -u edge -P s3cret -t edge-classifierd/porch/health -C 1 -W 40 >/root/health.json
check "and its health that the outbox is not durable" grep -q '"durable": *false' /root/health.json
systemctl stop "$unit"
umount --lazy /var/lib/edge-classifierd /var /usr /opt /etc
check "uninstalled" ./install.sh --uninstall --purge

# ---------------------------------------------------------------- Ansible
cd /root || exit 1
configure config.yaml.j2
printf '[cameras]\nlocalhost ansible_connection=local mqtt_password=s3cret\n' >inventory
play() { ansible-playbook -i inventory playbook.yaml; }
check "Ansible finds the playbook's syntax right" ansible-playbook -i inventory --syntax-check playbook.yaml
check "it installs the service" play
seen=$(event_count)
check "which publishes" within 20 more_events $((seen + 3))
check "a second run changes nothing" bash -c 'ansible-playbook -i inventory playbook.yaml | tee /dev/stderr | grep -q "changed=0 .*failed=0"'
pid=$(property MainPID)
reloads=$(journal | grep -c 'config.yaml: reloaded')
sed -i 's/threshold: 0.3,/threshold: 0.35,/' config.yaml.j2
check "a changed configuration comes with the next run" play
check "and is reloaded" within 5 says_more_often 'config.yaml: reloaded' "$reloads"
sed -i 's/threshold: 0.35,/threshold: 7,/' config.yaml.j2
check "a wrong one is refused before it is in place" bash -c "! ansible-playbook -i inventory playbook.yaml && ! grep -q 'threshold: 7' $config"
check "and the same process goes on" test "$(property MainPID)" = "$pid"
verdict
