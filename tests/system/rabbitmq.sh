#!/usr/bin/env bash
# rabbitmq.sh rights|cluster|tree: checks the MQTT client with RabbitMQ 4 in a Debian 13 tree; as root, without a network
# once the tree exists. `rights` uses one node, `cluster` the three nodes of docs/fleet/rabbitmq on 127.0.0.1 to 127.0.0.3.
# `tree` makes the tree and prints its path, for bench/fleet.py. It is kept in $EDGE_CLASSIFIERD_ROOTS for later runs.
set -euo pipefail
what=${1:?rights, cluster or tree}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
roots=${EDGE_CLASSIFIERD_ROOTS:-/var/tmp/edge-classifierd-roots}
root=$roots/rabbitmq
# shellcheck source=tests/system/mirror.bash
. "$here/mirror.bash"
if [ ! -e "$root/.built" ]; then
  mkdir -p "$roots"
  rm -rf --one-file-system "$root"
  mirror=$(debian_mirror)
  debootstrap --variant=minbase --include=ca-certificates trixie "$root" "$mirror" \
    >"$roots/rabbitmq.log" || { tail "$roots/rabbitmq.log"; exit 1; }
  cp -L /etc/resolv.conf "$root/etc/resolv.conf"
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  grep -lsE 'Check-Valid-Until|Check-Date|Proxy|CaInfo' /etc/apt/apt.conf.d/* |
    while read -r file; do cp "$file" "$root/etc/apt/apt.conf.d/"; done || true
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod +x "$root/usr/sbin/policy-rc.d"
  chroot "$root" apt-get -q update >>"$roots/rabbitmq.log"
  chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends rabbitmq-server \
    >>"$roots/rabbitmq.log"
  touch "$root/.built"
fi
if [ "$what" = tree ]; then
  echo "$root"
  exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$here/../.."
PYTHONPATH=$PWD:$PWD/tests/integration "${PYTHON:-.venv/bin/python}" "tests/system/rabbitmq_$what.py" "$root" "$work"
