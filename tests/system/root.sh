#!/usr/bin/env bash
# root.sh SUITE: builds (once) and prints the path of a Debian tree. Kept in $EDGE_CLASSIFIERD_ROOTS for later runs.
#   fresh-trixie, fresh-bookworm  what a new user starts from: a minimal Debian with git, Python, sudo and ca-certificates
#   fresh-trixie-arm64            the same for 64-bit ARM, whose programs qemu-user runs
#   trixie, bookworm              a Debian that boots: systemd, a broker, the wheels that the service needs and, on trixie,
#                                 the real picamera2 with libcamera's virtual camera
#   operations                    trixie with what fleets are rolled out with: git, cloud-init and Ansible
#   training                      trixie with what bench/training.py needs
#   machine                       trixie with a kernel, for a virtual machine
# Debian comes from the mirror that this machine's apt uses ($DEBIAN_MIRROR takes precedence).
set -euo pipefail
suite=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
roots=${EDGE_CLASSIFIERD_ROOTS:-/var/tmp/edge-classifierd-roots}
root=$roots/$suite
log=$roots/$suite.log
# shellcheck source=tests/system/mirror.bash
. "$here/mirror.bash"
# shellcheck source=tests/system/arm64.bash
. "$here/arm64.bash"

in_root() { # COMMAND...: with /proc and /dev, and without touching this system's mounts
  # shellcheck disable=SC2016
  unshare --mount --pid --fork --propagation private bash -c '
    root=$1; shift; mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"
    exec chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
      PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} "$@"' \
    in_root "$root" "$@"
}

install_packages() { # PACKAGE...
  in_root apt-get -q update >>"$log"
  in_root apt-get -q -y install --no-install-recommends "$@" >>"$log" || { tail "$log"; exit 1; }
}

copy_of() { # SUITE: starts from another tree
  local base
  base=$("$here/root.sh" "$1")
  rm -rf --one-file-system "$root"
  cp -a --reflink=auto "$base" "$root"
  rm "$root/.stamp"
}

build_fresh() { # SUITE [ARCHITECTURE]
  local mirror
  mirror=$(debian_mirror)
  rm -rf --one-file-system "$root"
  debootstrap ${2:+--arch="$2"} --variant=minbase --include=ca-certificates,git,python3,sudo "$1" "$root" "$mirror" >"$log" || { tail "$log"; exit 1; }
  # This machine's own way to the network.
  cp -L /etc/resolv.conf "$root/etc/resolv.conf"
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  [ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/pip.conf"
  grep -lsE 'Check-Valid-Until|Check-Date|Proxy|CaInfo' /etc/apt/apt.conf.d/* | while read -r file; do cp "$file" "$root/etc/apt/apt.conf.d/"; done || true
}

build_bootable() { # SUITE
  local packages=(systemd systemd-sysv dbus udev procps python3-venv python3-numpy mosquitto mosquitto-clients)
  copy_of "fresh-$1"
  [ "$1" != trixie ] || packages+=(python3-libcamera libcamera-tools python3-pip python3-prctl python3-dev gcc libc6-dev)
  install_packages "${packages[@]}"
  in_root systemctl disable --quiet mosquitto.service || true

  # What pip needs to install the service without a network.
  mkdir -p "$root/opt/build"
  cp "$here"/../../packaging/constraints/*.txt "$root/opt/build/"
  in_root bash -c '
    set -e
    python3 -m venv /opt/build/venv
    cd /opt/build
    python3 -c "import numpy; print(f\"numpy=={numpy.__version__}\")" >constraints
    venv/bin/pip download -q --no-deps --require-hashes --only-binary :all: -d /opt/wheels -r service.txt -r build.txt'
}

add_camera() {
  mkdir -p "$root/opt/camera/frames" "$root/usr/share/libcamera/pipeline/virtual"
  cp "$here"/camera/* "$root/opt/camera/"
  cp "$here/camera/virtual.yaml" "$root/usr/share/libcamera/pipeline/virtual/"
  # As a system package, which it is on Raspberry Pi OS.
  in_root bash -c '
    set -e
    pip install -q --break-system-packages --root-user-action ignore -c /opt/build/constraints picamera2
    cc -Wall -shared -fPIC -O2 -o /opt/camera/dmabuf.so /opt/camera/dmabuf.c -ldl'
}

stamp=$(
  {
    cat "$here/root.sh" "$here/mirror.bash"
    [[ $suite == fresh-* ]] || cat "$here/camera/"* "$here"/../../packaging/constraints/*.txt
  } | sha256sum | cut -c1-16
)
mkdir -p "$roots"
exec 4>"$root.lock"
flock 4 # another run may be building the same tree
if [ "$(cat "$root/.stamp" 2>/dev/null)" = "$stamp" ]; then
  echo "$root"
  exit
fi
exec 3>&1 >&2
case $suite in
  fresh-trixie-arm64)
    run_arm64
    build_fresh trixie arm64
    ;;
  fresh-*) build_fresh "${suite#fresh-}" ;;
  operations)
    copy_of trixie
    install_packages iproute2 cloud-init ansible-core
    ;;
  training)
    copy_of trixie
    install_packages python3-pytest
    ;;
  machine)
    copy_of trixie
    install_packages initramfs-tools linux-image-amd64 zstd
    ;;
  *)
    build_bootable "$suite"
    [ "$suite" != trixie ] || add_camera
    ;;
esac
echo "$stamp" >"$root/.stamp"
echo "$root" >&3
