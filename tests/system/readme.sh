#!/usr/bin/env bash
# readme.sh SUITE [root|user] [COMMAND]: runs the README's two commands (or COMMAND) in a clean clone in a fresh minimal
# Debian, as root or (the default) as an ordinary user with sudo. Needs what run.sh needs, and a network; without them it
# says why and ends with 77. Files that stay in the temporary folders are a failure.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
suite=$1
user=${2:-user}
command=${3:-./install.sh --try && ./install.sh --test}

skip() {
  echo "tests on a fresh Debian skipped: $1" >&2
  exit 77
}
[ "$(id -u)" -eq 0 ] || skip "this needs root"
for tool in debootstrap systemd-nspawn; do
  command -v "$tool" >/dev/null || skip "$tool is not installed"
done
root=$("$here/root.sh" "fresh-$suite") || skip "no Debian $suite can be built here"
systemd-nspawn --quiet -D "$root" --register=no --keep-unit --pipe /bin/true </dev/null || skip "no container can be started here"

run=$root-run-$$
trap 'rm -rf --one-file-system "$run"' EXIT
trap 'exit 1' INT TERM HUP
cp -a --reflink=auto "$root" "$run"
home=/root
if [ "$user" != root ]; then
  home=/home/$user
  chroot "$run" useradd --create-home --shell /bin/bash "$user"
  echo "$user ALL=(ALL) NOPASSWD: ALL" >"$run/etc/sudoers.d/$user"
fi
git clone --quiet --no-local "$repository" "$run$home/edge-classifierd"
chroot "$run" chown -R "$user:" "$home/edge-classifierd"
variables=(--setenv=LANG=C.UTF-8 ${CI:+--setenv=CI="$CI"} ${PIP_INDEX_URL:+--setenv=PIP_INDEX_URL="$PIP_INDEX_URL"})
systemd-nspawn --quiet -D "$run" --register=no --keep-unit --as-pid2 --pipe --user="$user" --chdir="$home/edge-classifierd" "${variables[@]}" \
  /bin/bash -c "$command"' || exit
    find /tmp /var/tmp -mindepth 1 -type f | { ! grep . || { echo "FAILED  these files stayed in the temporary folders"; exit 1; } }' </dev/null
