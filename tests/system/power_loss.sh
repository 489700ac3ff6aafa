#!/usr/bin/env bash
# power_loss.sh [ROUNDS] (default 20): a virtual machine fills the outbox; its power is cut in mid-write (kill -9 of qemu) and
# the same disk is booted again. Every event that was said to be durable must still wait, and no number be given twice.
# About 15 s a round. CARELESS=1 is the control: without waiting for the disk it must find losses (and then ends with 1).
# Needs root, debootstrap, qemu-system-x86_64 and mkfs.ext4; without them it says why and ends with 77.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rounds=${1:-20}
roots=${EDGE_CLASSIFIERD_ROOTS:-/var/tmp/edge-classifierd-roots}
root=$roots/power-loss
# shellcheck source=tests/system/mirror.bash
. "$here/mirror.bash"

[ "$(id -u)" -eq 0 ] || { echo "skipped: needs root" >&2; exit 77; }
for tool in debootstrap qemu-system-x86_64 mkfs.ext4; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed" >&2; exit 77; }
done

if [ ! -e "$root/.ready" ]; then
  mkdir -p "$roots"
  rm -rf --one-file-system "$root"
  debootstrap --variant=minbase --include=python3,initramfs-tools,linux-image-amd64,zstd trixie "$root" "$(debian_mirror)" >"$roots/power-loss.log" 2>&1 ||
    { tail "$roots/power-loss.log"; exit 1; }
  touch "$root/.ready"
fi
work=$(mktemp -d)
qemu=
trap '[ -z "$qemu" ] || kill -9 "$qemu" 2>/dev/null || true; rm -rf "$work"' EXIT

mkdir -p "$root/opt/test" "$root/var/lib/edge-classifierd"
rm -rf "$root/opt/test/edge_classifierd"
cp -r "$here/../../edge_classifierd" "$here/power_loss_guest.py" "$root/opt/test/"
cat >"$root/opt/test/init" <<'INIT'
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -o remount,rw /
exec </dev/null >/dev/ttyS0 2>&1
cd /opt/test && PYTHONDONTWRITEBYTECODE=1 python3 power_loss_guest.py $(grep -o careless /proc/cmdline)
echo ENDED
sleep 100
INIT
chmod +x "$root/opt/test/init"
truncate -s 3G "$work/disk"
mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1 -d "$root" "$work/disk"

boot() { # LOG
  qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 1 -m 512 -nodefaults -display none -no-reboot \
    -serial "file:$1" -kernel "$root"/boot/vmlinuz-* -initrd "$root"/boot/initrd.img-* \
    -drive "file=$work/disk,format=raw,if=virtio,cache=writeback" \
    -append "console=ttyS0 root=/dev/vda rw quiet panic=-1 mitigations=off no_timer_check init=/opt/test/init ${CARELESS:+careless}" &
  qemu=$!
}

power_off() {
  kill -9 "$qemu" 2>/dev/null || true
  wait "$qemu" 2>/dev/null || true
  qemu=
}

writing() { # LOG: boots and waits until events are written; a machine that is too busy may fail to boot the kernel
  : >"$1"
  boot "$1"
  for _ in $(seq 1200); do
    if grep -qa '^DURABLE' "$1"; then return 0; fi
    if grep -qaE '^ENDED|Kernel panic' "$1" || ! kill -0 "$qemu" 2>/dev/null; then break; fi
    sleep 0.1
  done
  power_off
  return 1
}

for round in $(seq 0 "$rounds"); do
  log=$work/round-$(printf %03d "$round")
  if ! writing "$log" && { grep -qa '^FOUND\|^ENDED' "$log" || ! writing "$log"; }; then
    echo "round $round: the machine did not get to writing:"
    tail -n 20 "$log"
    exit 1
  fi
  sleep "$((RANDOM % 3)).$((RANDOM % 10))"
  power_off
  echo "round $round: $(grep -ac '^DURABLE' "$log") events written; power cut"
done

python3 - "$work" <<'P'
import re, sys
from pathlib import Path

owed, highest, wrong = set(), 0, 0
for log in sorted(Path(sys.argv[1]).glob("round-*")):
    lines = re.findall(r"^(FOUND|NEXT|DURABLE|ACKED)([ \d-]*)\r?$", log.read_text(errors="replace"), re.M)
    said = {}
    for word, rest in lines:
        if word == "FOUND":
            found = {n for part in rest.split() for n in range(int(part.split("-")[0]), int(part.split("-")[1]) + 1)}
            lost = sorted(owed - found)
            if lost:
                wrong += 1
                print(f"{log.name}: {len(lost)} durable events are lost: {lost[0]} to {lost[-1]}")
            owed |= found
        elif word == "NEXT":
            if int(rest) <= highest:
                wrong += 1
                print(f"{log.name}: number {rest} was given again; {highest} was durable")
        elif word == "DURABLE":
            number = int(rest)
            owed.add(number)
            highest = max(highest, number)
        else:
            owed = {number for number in owed if number > int(rest)}
print(f"{len(list(Path(sys.argv[1]).glob('round-*'))) - 1} power cuts, {highest} events: " + (f"{wrong} violations" if wrong else "none lost, no number twice"))
sys.exit(wrong > 0)
P
