#!/usr/bin/env bash
# Installs edge-classifierd from this checkout. Never asks anything; can be run again at any time.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: sudo ./install.sh [OPTION…]             install the service, start it and wait until it is ready
         --upgrade      replace an installed version; configuration and events stay; taken back if it does not start
         --web          switch on the page, with a new password that is shown once
         --edge-tpu     with the library for Coral Edge TPUs
         --wheels DIR   without a network: Python packages from the wheels in DIR
         --dry-run      show what would be done
       sudo ./install.sh --uninstall [--purge] remove the service; --purge: also configuration, events and user

       ./install.sh --try                      show the whole chain at work: photographs in, MQTT events out (about a minute)
       ./install.sh --test [PYTEST ARGUMENT…]  install what the tests need and run them
       ./install.sh --help

The service is for Raspberry Pi OS and Debian 12 and 13: docs/operations.md. --try and --test install into .venv inside this
checkout and leave the rest of the system alone, except that a Debian package which is missing (python3-venv; for --test
also a broker, OpenSSL, a C compiler and small tools) is installed with apt-get, through `sudo -n` when not root.

PYTHON=/path/to/python chooses the interpreter (Python 3.11 to 3.13). pip's own settings are respected.
TEXT
}

# ---------------------------------------------------------------- what the user sees
started=$SECONDS
log=
ticker=

say() { printf '%s\n' "$*" >&2; }

fail() { # SENTENCE [NEXT STEP]
  say "install.sh: $1"
  [ $# -lt 2 ] || say "  $2"
  exit 1
}

stop_ticker() {
  [ -n "$ticker" ] || return 0
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  ticker=
}

cleanup() {
  stop_ticker
  [ -z "$log" ] || rm -f "$log"
}
trap cleanup EXIT

# Runs COMMAND with its output in a log; one line tells what goes on and how long it took, counting up on a terminal.
step() { # TITLE COMMAND...
  local title=$1 begun=$SECONDS status=0
  shift
  [ -n "$log" ] || log=$(mktemp)
  if [ -t 2 ]; then
    (while :; do printf '\r  %s … %d s ' "$title" $((SECONDS - begun)) >&2 && sleep 1; done) &
    ticker=$!
  else
    say "  $title …"
  fi
  "$@" >"$log" 2>&1 </dev/null || status=$?
  stop_ticker
  if [ -t 2 ]; then printf '\r' >&2; fi
  if [ $status -eq 0 ]; then
    say "  $title: done in $((SECONDS - begun)) s"
  else
    say "  $title: failed after $((SECONDS - begun)) s; the end of its output:"
    tail -n 20 "$log" | sed 's/^/    /' >&2
    say "  The whole of it: $log"
    log=
  fi
  return $status
}

# ---------------------------------------------------------------- Debian packages
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_install() { # WHY PACKAGE...
  local why=$1 remedy
  shift
  remedy="sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
  command -v apt-get >/dev/null || fail "$why, and there is no apt-get here; install what Debian calls: $*"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "$why; as root, run:" "${remedy//sudo /}"
    sudo -n true 2>/dev/null || fail "$why, and sudo wants a password; run this, then ./install.sh again:" "$remedy"
  fi
  step "Installing $* with apt" apt_get_install "$@" || fail "$why, and apt-get could not install it; try:" "$remedy"
}

apt_get_install() {
  # The lists of a fresh system are empty or old. One dead source among several is no reason to give up.
  apt_get update || true
  apt_get -y install --no-install-recommends "$@"
}

# Waits up to 10 minutes for another apt. Of its locks, DPkg::Lock::Timeout covers only that of dpkg.
apt_get() { # ARGUMENT...
  local output status _
  for _ in $(seq 120); do
    status=0
    output=$(as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -o DPkg::Lock::Timeout=600 "$@" 2>&1) || status=$?
    printf '%s\n' "$output"
    [[ $status -ne 0 && $output == *"Could not get lock"* ]] || return $status
    sleep 5
  done
  return $status
}

# ---------------------------------------------------------------- Python
python=

find_python() {
  local candidate candidates=(python3 python3.13 python3.12 python3.11) seen=
  [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    command -v "$candidate" >/dev/null || continue
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then
      python=$(command -v "$candidate")
      return
    fi
    seen="${seen:+$seen, }$candidate is $("$candidate" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo broken)"
  done
  fail "needs Python 3.11, 3.12 or 3.13 (${seen:-no ${candidates[0]} found}); Debian 12 and 13 bring one:" "sudo apt-get install -y python3 python3-venv"
}

venv_works() {
  [ -f .venv/pyvenv.cfg ] && .venv/bin/python -m pip --version >/dev/null 2>&1
}

make_venv() {
  local version
  venv_works && return
  find_python
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    apt_install "Python $version cannot make virtual environments (package python$version-venv)" "python$version-venv"
  fi
  # --clear: what an interrupted run left behind goes.
  step "Making .venv with Python $version" "$python" -m venv --clear .venv || fail "could not make a virtual environment in $PWD/.venv"
}

# Editable, so that a `git pull` needs no second installation; again only when what it depends on has changed.
install_extra() { # EXTRA
  local stamp=.venv/.edge-classifierd-$1 wanted
  wanted=$({ cat pyproject.toml && printf '%s\n' "$PWD" "$1"; } | sha256sum)
  [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
  rm -f "$stamp"
  step "Installing edge-classifierd and its Python packages into .venv" \
    .venv/bin/python -m pip install --disable-pip-version-check --no-input --prefer-binary --editable ".[$1]" ||
    fail "pip could not install the Python packages; the network or the package index may be the reason. Once it is mended, run the same command again."
  printf '%s\n' "$wanted" >"$stamp"
}

# ---------------------------------------------------------------- the commands
prepare() { # EXTRA
  cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
  [ -w . ] || fail "cannot write to $PWD; make the checkout your own"
  make_venv
  install_extra "$1"
  say "  Ready after $((SECONDS - started)) s."
}

try() {
  local status=0
  prepare demo
  trap : INT # Ctrl-C ends the demonstration, which then ends this script in its own way
  "$PWD/.venv/bin/edge-classifierd" demo || status=$? # with its path: what it says to do next can be copied from anywhere
  trap - INT
  exit $status
}

test_() { # PYTEST ARGUMENT...
  prepare dev
  export PATH="$PATH:/usr/sbin:/sbin" # where Debian keeps mosquitto, which an ordinary user's PATH leaves out
  install_test_tools
  cleanup
  # Two files of tests at a time: much of what they take is waiting.
  exec .venv/bin/python -m pytest --numprocesses 2 --dist loadfile "$@"
}

install_test_tools() {
  local needed=() useful=() broker=
  broker=$(command -v mosquitto || true)
  [ -n "$broker" ] || needed+=(mosquitto)
  command -v mosquitto_sub >/dev/null || needed+=(mosquitto-clients)
  command -v openssl >/dev/null || needed+=(openssl)
  command -v chattr >/dev/null || useful+=(e2fsprogs)
  command -v chromium >/dev/null || ! is_debian || useful+=(chromium fonts-dejavu-core)
  command -v ip >/dev/null || useful+=(iproute2)
  command -v jq >/dev/null || useful+=(jq)
  compiles || useful+=(gcc libc6-dev)
  [ ${#needed[@]} -gt 0 ] || [ ${#useful[@]} -gt 0 ] || return 0
  if [ ${#needed[@]} -eq 0 ] && ! can_apt_install; then
    say "  Some tests are skipped for want of Debian's ${useful[*]}."
    return 0
  fi
  apt_install "the tests need Debian packages" "${needed[@]}" "${useful[@]}"
  # The tests start brokers of their own on free ports: a service that only came with the package is not left running.
  if [ -z "$broker" ] && [ -d /run/systemd/system ]; then
    as_root systemctl disable --quiet --now mosquitto.service || say "  Could not stop the service mosquitto, which came with the package."
  fi
}

can_apt_install() {
  command -v apt-get >/dev/null && as_root true 2>/dev/null
}

is_debian() {
  grep -q '^ID=debian' /etc/os-release 2>/dev/null # Raspberry Pi OS too; on Ubuntu `chromium` only installs a snap
}

compiles() {
  printf '#include <stdlib.h>\n' | cc -E - >/dev/null 2>&1
}

usage_error() { # SENTENCE
  say "install.sh: $1"
  usage >&2
  exit 2
}

main() {
  case ${1:-} in
    --try)
      [ $# -eq 1 ] || { say "install.sh: --try takes no arguments, got: ${*:2}"; exit 2; }
      try
      ;;
    --test) test_ "${@:2}" ;;
    --help | -h) usage ;;
    *)
      # shellcheck source=systemd/install.bash
      . "$(dirname -- "${BASH_SOURCE[0]}")/systemd/install.bash"
      system_command "$@"
      ;;
  esac
}

main "$@"
