#!/usr/bin/env bash
# out_of_memory.sh: in a virtual machine with a kernel of its own, the memory of the installed service ends during a training.
# The kernel must kill the child that trains, and systemd must leave the service alone. OOM_POLICY=stop is the control: there
# systemd stops the service, and this script ends with 1. Takes long, because qemu emulates the processor.
# Needs root, debootstrap, qemu-system-x86_64 and mkfs.ext4; without them it says why and ends with 77.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
limit=${LIMIT:-2400}

[ "$(id -u)" -eq 0 ] || { echo "skipped: needs root" >&2; exit 77; }
for tool in debootstrap qemu-system-x86_64 mkfs.ext4; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed" >&2; exit 77; }
done
root=$("$here/root.sh" machine)
work=$(mktemp -d -p "${EDGE_CLASSIFIERD_ROOTS:-/var/tmp/edge-classifierd-roots}")
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' INT TERM HUP

# The scenario is a service of the machine, which powers itself off after it.
tree=$work/tree
cp -a --reflink=auto "$root" "$tree"
mkdir -p "$tree/root/edge-classifierd"
git -C "$repository" ls-files -z --cached --others --exclude-standard |
  (cd "$repository" && xargs -0 tar -c --ignore-failed-read 2>/dev/null) | tar -x -C "$tree/root/edge-classifierd"
cat >"$tree/etc/systemd/system/scenario.service" <<UNIT
[Service]
Environment=HOME=/root LANG=C.UTF-8 TERM=dumb SLACK=20 PIP_FIND_LINKS=/opt/wheels PIP_NO_INDEX=1 OOM_POLICY=${OOM_POLICY:-}
ExecStart=/bin/bash -c 'bash /root/edge-classifierd/tests/system/out_of_memory_guest.sh; echo "STATUS \$?"; systemctl poweroff --no-block'
StandardOutput=tty
TTYPath=/dev/ttyS0
UNIT
mkdir -p "$tree/etc/systemd/system/multi-user.target.wants"
ln -sf ../scenario.service "$tree/etc/systemd/system/multi-user.target.wants/"
ln -sf /dev/null "$tree/etc/systemd/system/serial-getty@ttyS0.service" # the line is the scenario's
truncate -s 6G "$work/disk"
mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1 -d "$tree" "$work/disk"
rm -rf --one-file-system "$tree"

: >"$work/console"
timeout --foreground "$limit" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nodefaults -display none -no-reboot \
  -serial "file:$work/console" -kernel "$root"/boot/vmlinuz-* -initrd "$root"/boot/initrd.img-* \
  -drive "file=$work/disk,format=raw,if=virtio,cache=unsafe" \
  -append "console=ttyS0 root=/dev/vda rw quiet panic=-1 mitigations=off no_timer_check systemd.show_status=no" || true
said() { sed 's/\r//g; s/^.*\x1b\[?7h//' "$work/console"; } # without what the firmware tells a terminal
said | grep -aE '^(ok  |FAILED|    )' || said | tail -n 20
said | grep -aqx 'STATUS 0'
