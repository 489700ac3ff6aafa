# shellcheck shell=bash
# Installing, upgrading and removing the service; sourced by install.sh, whose say, fail, step and apt_install it uses.
# Everything that it puts into the system is named here, in one place.

readonly HOME_DIR=/opt/edge-classifierd
readonly CONFIG_DIR=/etc/edge-classifierd
readonly STATE_DIR=/var/lib/edge-classifierd
readonly UNIT=edge-classifierd.service
readonly UNIT_DIR=/etc/systemd/system
readonly CREDSTORE=/etc/credstore
readonly PAGE_SECTION='web: {listen: "0.0.0.0:8480", password: !credential web_password}'
readonly CREDENTIALS=("$CREDSTORE"/edge-classifierd.* /etc/credstore.encrypted/edge-classifierd.*)
readonly COMMAND=/usr/local/bin/edge-classifierd
# What lies in systemd/ and where it goes.
readonly SYSTEM_FILES=(
  "edge-classifierd.service:$UNIT_DIR/$UNIT"
  "10-notify-reload.conf:$UNIT_DIR/$UNIT.d/10-notify-reload.conf"
  "edge-classifierd.sysusers.conf:/etc/sysusers.d/edge-classifierd.conf"
  "edge-classifierd.tmpfiles.conf:/etc/tmpfiles.d/edge-classifierd.conf"
  "70-edge-classifierd.rules:/etc/udev/rules.d/70-edge-classifierd.rules"
)

dry_run=
edge_tpu=
web=
wheels=
upgrade=
purge=
workplace=
previous=
old_version=

# Runs a command, or shows it with --dry-run.
act() {
  if [ -n "$dry_run" ]; then say "  would run: $*"; else "$@"; fi
}

act_step() { # TITLE COMMAND...
  if [ -n "$dry_run" ]; then say "  would run: ${*:2}"; else step "$@"; fi
}

# ---------------------------------------------------------------- what this machine is
check_machine() {
  local id='' version='' name=''
  [ "$(id -u)" -eq 0 ] || [ -n "$dry_run" ] || fail "installing the service needs root; run:" "sudo ./install.sh $*"
  command -v systemctl >/dev/null || fail "there is no systemd here; ./install.sh --try needs none"
  [ -d /run/systemd/system ] || [ -n "$dry_run" ] || fail "systemd is not running here (a container?); ./install.sh --try needs none"
  if [ -r /etc/os-release ]; then
    id=$(. /etc/os-release && echo "${ID:-}") version=$(. /etc/os-release && echo "${VERSION_ID:-}") name=$(. /etc/os-release && echo "${PRETTY_NAME:-}")
  fi
  case "$id $version" in
    "debian 12" | "debian 13" | "raspbian 12" | "raspbian 13") ;;
    *) say "  Made for Raspberry Pi OS and Debian 12 and 13; this is ${name:-something else}. Going on." ;;
  esac
}

on_raspberry_pi() {
  grep -qs 'Raspberry Pi' /proc/device-tree/model
}

apt_has() { # PACKAGE
  apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [^(]'
}

systemd_version() {
  systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p'
}

# ---------------------------------------------------------------- packages
install_packages() {
  local wanted=(python3 python3-venv python3-numpy) missing=() package
  on_raspberry_pi && wanted+=(python3-picamera2)
  for package in "${wanted[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    if [ -n "$dry_run" ]; then say "  would install with apt: ${missing[*]}"; else apt_install "the service needs Debian packages" "${missing[@]}"; fi
  fi
  [ -z "$edge_tpu" ] || install_edge_tpu
}

install_edge_tpu() {
  local package
  if ldconfig -p | grep -q 'libedgetpu\.so\.1'; then return; fi
  for package in libedgetpu1-std libedgetpu1-max; do
    if apt_has "$package"; then
      if [ -n "$dry_run" ]; then say "  would install with apt: $package"; else apt_install "the Edge TPU needs libedgetpu" "$package"; fi
      return
    fi
  done
  fail "no package source here has libedgetpu for the Edge TPU" "docs/edge-tpu.md says where maintained builds are; install one, then run this again."
}

# ---------------------------------------------------------------- the program
# A new virtual environment beside the old one; `venv` is a link to the one in use.
build_venv() {
  local target stamp
  stamp=$(fingerprint)
  previous=$(readlink "$HOME_DIR/venv" 2>/dev/null || true)
  [ -z "$previous" ] || old_version=$(version_of "$previous")
  if [ -n "$previous" ] && [ "$(cat "$HOME_DIR/$previous/.fingerprint" 2>/dev/null)" = "$stamp" ]; then
    say "  The program is already installed as it is here."
    return
  fi
  target=venv-$(date -u +%Y%m%dT%H%M%S)-$$
  if [ -n "$dry_run" ]; then
    say "  would make $HOME_DIR/$target from ${wheels:-this checkout}, with the system's Python packages visible, and link $HOME_DIR/venv to it"
    return
  fi
  install -d -m 0755 "$HOME_DIR"
  # picamera2's parts are compiled against the system's numpy: it must stay what it is.
  /usr/bin/python3 -c 'import numpy; print(f"numpy=={numpy.__version__}")' >"$workplace/constraints" 2>/dev/null || : >"$workplace/constraints"
  step "Making $HOME_DIR/$target" /usr/bin/python3 -m venv --system-site-packages "$HOME_DIR/$target" || fail "could not make a virtual environment in $HOME_DIR"
  if [ -n "$wheels" ]; then
    local page='[web]'
    compgen -G "$wheels/starlette-*.whl" >/dev/null || page= # a wheelhouse made without the page
    step "Installing edge-classifierd from $wheels" pip_install "$target" --constraint "$workplace/constraints" --no-index --find-links "$wheels" "edge-classifierd$page"
  else
    step "Installing edge-classifierd and its Python packages" install_checkout "$target"
  fi || {
    rm -rf "${HOME_DIR:?}/$target"
    fail "pip could not install the program; what was installed before is as it was" "Without a network, make a wheelhouse elsewhere and use --wheels DIR: docs/operations.md."
  }
  printf '%s\n' "$stamp" >"$HOME_DIR/$target/.fingerprint"
  if [ -z "$wheels" ] && command -v git >/dev/null; then # root may read a checkout that is another account's
    git -c safe.directory="$PWD" describe --always --dirty >"$HOME_DIR/$target/.commit" 2>/dev/null || true
  fi
  use_venv "$target"
}

# On 64-bit systems the packages are those of packaging/constraints, byte for byte; numpy is the system's.
install_checkout() { # VENV
  local source=$workplace/source known=(--no-deps --require-hashes --only-binary :all: --ignore-installed)
  mkdir -p "$source/models"
  cp -R edge_classifierd pyproject.toml README.md LICENSE "$source/"
  cp models/README.md models/*.tflite "$source/models/"
  if versions_are_known; then
    pip_install "$1" "${known[@]}" --requirement packaging/constraints/service.txt &&
      pip_install "$1" "${known[@]}" --target "$workplace/build" --requirement packaging/constraints/build.txt &&
      PYTHONPATH=$workplace/build pip_install "$1" --no-deps --no-build-isolation "$source"
  else
    pip_install "$1" --constraint "$workplace/constraints" "${source}[web]"
  fi
}

# PyPI has a wheel of everything for these. A 32-bit Raspberry Pi OS gets wheels from piwheels.org, with other hashes.
versions_are_known() {
  [[ $(/usr/bin/python3 -c 'import platform, sys; print(platform.machine(), sys.maxsize > 2**32)') =~ ^(x86_64|aarch64)\ True$ ]]
}

pip_install() { # VENV ARGUMENT...
  "$HOME_DIR/$1/bin/python" -m pip install --disable-pip-version-check --no-input --prefer-binary "${@:2}"
}

use_venv() { # NAME
  ln -s "$1" "$HOME_DIR/venv.new"
  mv -T "$HOME_DIR/venv.new" "$HOME_DIR/venv"
}

version_of() { # VENV: 0.1.0 (commit d1b1f29)
  local version commit
  version=$("$HOME_DIR/$1/bin/edge-classifierd" --version 2>/dev/null) || version=unknown
  commit=$(cat "$HOME_DIR/$1/.commit" 2>/dev/null || true)
  printf '%s\n' "${version#edge-classifierd }${commit:+ (commit $commit)}"
}

# What the virtual environment is made of: changes when anything of it does.
fingerprint() {
  {
    /usr/bin/python3 -VV
    if [ -n "$wheels" ]; then
      find "$wheels" -maxdepth 1 -name '*.whl' -type f -print0 | sort -z | xargs -0r sha256sum
    else
      find edge_classifierd models packaging/constraints pyproject.toml -type f ! -path '*/__pycache__/*' ! -path 'models/build/*' -print0 | sort -z | xargs -0 sha256sum
    fi
  } | sha256sum
}

# ---------------------------------------------------------------- the system's files
install_files() { # keeps what it replaces in $workplace/before
  local entry source target
  for entry in "${SYSTEM_FILES[@]}"; do
    source=systemd/${entry%%:*} target=${entry#*:}
    if [ -e "$target" ] && [ -z "$dry_run" ]; then install -D -m 0644 "$target" "$workplace/before$target"; fi
    if [ "${source##*/}" = 10-notify-reload.conf ] && [ "$(systemd_version)" -lt 254 ]; then
      act rm -f "$target"
      continue
    fi
    if ! cmp -s "$source" "$target"; then act install -D -m 0644 "$source" "$target"; fi
  done
  act ln -sfn "$HOME_DIR/venv/bin/edge-classifierd" "$COMMAND"
  act systemd-sysusers /etc/sysusers.d/edge-classifierd.conf
  act systemd-tmpfiles --create /etc/tmpfiles.d/edge-classifierd.conf
  if [ -S /run/udev/control ]; then # there is no udev in a container
    act udevadm control --reload || true
    act udevadm trigger --action=change --subsystem-match=usb --subsystem-match=apex --subsystem-match=dma_heap || true
  fi
  act systemctl daemon-reload
}

restore_files() {
  local entry target
  for entry in "${SYSTEM_FILES[@]}"; do
    target=${entry#*:}
    if [ -e "$workplace/before$target" ]; then install -D -m 0644 "$workplace/before$target" "$target"; else rm -f "$target"; fi
  done
  systemctl daemon-reload
}

# The account that installs may read the configuration and the pictures that the service keeps, without sudo.
join_group() {
  local account=${SUDO_USER:-root} folder
  for folder in "$STATE_DIR"/{collected,snapshots}; do # an older version kept them for the service alone
    if [ -d "$folder" ]; then act chmod -R g+rX "$folder"; fi
  done
  if [ "$account" = root ] || ! getent passwd "$account" >/dev/null; then return; fi
  if ! id -nG "$account" | grep -qw edge-classifierd; then
    act usermod --append --groups edge-classifierd "$account"
    [ -n "$dry_run" ] || say "  $account joined the group edge-classifierd: after the next login it may read" \
      $'\n'"    $CONFIG_DIR and the pictures below $STATE_DIR."
  fi
}

first_configuration() {
  local config=$CONFIG_DIR/config.yaml
  [ ! -e "$config" ] || return 0
  if [ -n "$dry_run" ]; then
    say "  would write $config with the cameras and the broker that are found here (doctor --suggest)"
    return
  fi
  "$HOME_DIR/venv/bin/edge-classifierd" doctor --suggest >"$workplace/config.yaml" 2>"$workplace/found" || fail "no first configuration could be made" "copy config/example.yaml to $config and run this again"
  install -m 0640 -g edge-classifierd "$workplace/config.yaml" "$config"
  say "  Wrote $config:"
  sed 's/^/    /' "$workplace/found" >&2
}

# ---------------------------------------------------------------- the page
# Adds `web:` to the configuration and makes the password, which is shown once, at the end. What exists stays.
enable_page() {
  local config=$CONFIG_DIR/config.yaml password=$CREDSTORE/edge-classifierd.web_password
  [ -n "$web" ] || return 0
  if [ -n "$dry_run" ]; then
    say "  would add to $config: $PAGE_SECTION"
    say "  would make a password for the page, store its hash in $password and show it once"
    return
  fi
  "$HOME_DIR/venv/bin/python" -c 'import starlette, uvicorn' 2>/dev/null ||
    fail "the page needs Python packages that are not in $wheels" "make the wheelhouse with: pip wheel --wheel-dir DIR '.[web]'"
  if [ ! -e "$password" ]; then
    "$HOME_DIR/venv/bin/edge-classifierd" web password --no-restart --config "$config" >"$workplace/password" 2>/dev/null ||
      fail "the page's password could not be stored in $password"
  fi
  if ! grep -q '^web:' "$config"; then
    install -m 0600 /dev/null "$config.new"
    # shellcheck disable=SC2016 # the backquotes are text
    { cat "$config" && printf '\n# The page. `sudo edge-classifierd web password` sets its password.\n%s\n' "$PAGE_SECTION"; } >"$config.new"
    if ! "$HOME_DIR/venv/bin/python" -I -c 'import sys
from pathlib import Path
from edge_classifierd.config.loading.load import load
sys.exit(load(Path(sys.argv[1])).configuration.web is None)' "$config.new" >/dev/null 2>&1; then
      rm -f "$config.new"
      fail "\`web:\` could not be added to $config, perhaps because the file has mistakes" "add it by hand: $PAGE_SECTION"
    fi
    cat "$config.new" >"$config" # the file keeps its owner and mode
    rm -f "$config.new"
    say "  Added to $config: $PAGE_SECTION"
  fi
}

report_page() {
  [ -n "$web" ] || return 0
  say ""
  say "The page: $(page_address)"
  if [ -s "$workplace/password" ]; then
    say "Its password, shown only now: $(cat "$workplace/password")"
  else
    say "Its password is the one from before."
  fi
  say "A new one at any time: sudo edge-classifierd web password"
}

page_address() {
  "$HOME_DIR/venv/bin/python" -I -c 'import sys
from pathlib import Path
from edge_classifierd.cli.web import page_address
from edge_classifierd.config.loading.load import load
print(page_address(load(Path(sys.argv[1])).configuration.web))' "$CONFIG_DIR/config.yaml" 2>/dev/null || echo "see \`web.listen\` in $CONFIG_DIR/config.yaml"
}

# ---------------------------------------------------------------- starting
start_service() {
  act systemctl enable --quiet "$UNIT"
  if [ -n "$dry_run" ]; then
    say "  would start $UNIT, wait until it is ready, and check what works (doctor --summary)"
    return
  fi
  systemctl reset-failed "$UNIT" 2>/dev/null || true
  # systemctl returns when the daemon has said that it is ready, or has failed.
  step "Starting the service and waiting until it is ready" systemctl restart "$UNIT" && still_active && runtime_works
}

# A daemon whose runtime does not work becomes ready all the same, with every pipeline offline.
runtime_works() {
  "$HOME_DIR/venv/bin/python" -I -c 'import sys
from edge_classifierd.doctor.check_runtime import check_runtime
sys.exit(check_runtime().verdict == "failed")'
}

still_active() {
  sleep 1
  systemctl is-active --quiet "$UNIT"
}

roll_back() {
  say "  The new version does not work. The end of its log:"
  journalctl -u "$UNIT" -n 10 -o cat --no-pager 2>/dev/null | sed 's/^/    /' >&2
  say "  What its doctor finds:"
  timeout 120 "$COMMAND" doctor --summary 2>&1 | sed 's/^/    /' >&2 || true
  local current
  current=$(readlink "$HOME_DIR/venv")
  if [ -z "$previous" ] || [ "$previous" = "$current" ]; then
    systemctl stop "$UNIT" || true
    fail "the service does not start" "correct what is reported above, then: sudo ./install.sh"
  fi
  systemctl stop "$UNIT" || true
  use_venv "$previous"
  restore_files
  rm -rf "${HOME_DIR:?}/$current"
  systemctl reset-failed "$UNIT" 2>/dev/null || true
  if systemctl restart "$UNIT" && still_active; then
    fail "the upgrade was taken back; the version from before runs again"
  fi
  fail "the upgrade was taken back, but the version from before does not start either" "see: journalctl -u $UNIT -e"
}

remove_old_venvs() {
  local current other
  current=$(readlink "$HOME_DIR/venv")
  for other in "$HOME_DIR"/venv-*; do
    [ "${other##*/}" = "$current" ] || rm -rf "$other"
  done
}

# ---------------------------------------------------------------- what works
# The doctor's exit code does not end the installation: a broker or a camera may come later.
run_doctor() {
  if timeout 180 "$COMMAND" doctor --summary >"$workplace/summary" 2>&1; then touch "$workplace/works"; fi
}

report() {
  local version
  version=$(version_of "$(readlink "$HOME_DIR/venv")")
  step "Checking camera, broker, model and Edge TPU" run_doctor
  say ""
  if [ -n "$old_version" ] && [ "$old_version" != "$version" ]; then
    say "Upgraded from $old_version to $version."
  elif [ -n "$old_version" ]; then
    say "Version $old_version was installed before, and stays."
  fi
  if [ -e "$workplace/works" ]; then
    say "edge-classifierd $version is running; no check failed."
  else
    say "edge-classifierd $version is running, but not everything works:"
  fi
  say ""
  cat "$workplace/summary" >&2
  say ""
  say "Logs: journalctl -fu edge-classifierd"
  say "Pictures kept with \`collect\`: $STATE_DIR/collected"
  say "Everyday commands: docs/operations.md"
  report_page
}

# ---------------------------------------------------------------- the commands
install_system() {
  check_machine "$@"
  if [ -n "$wheels" ]; then
    [ -d "$wheels" ] || fail "$wheels: no such folder"
    compgen -G "$wheels/edge_classifierd-*.whl" >/dev/null || fail "$wheels: holds no wheel of edge-classifierd" "make it with: pip wheel --wheel-dir DIR ."
    wheels=$(cd "$wheels" && pwd)
  fi
  cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit
  if [ -n "$upgrade" ] && [ ! -L "$HOME_DIR/venv" ]; then
    fail "nothing is installed that could be upgraded; run ./install.sh without --upgrade"
  fi
  workplace=$(mktemp -d)
  trap 'cleanup; rm -rf "$workplace"' EXIT
  install_packages
  build_venv
  install_files
  join_group
  first_configuration
  enable_page
  act systemd-tmpfiles --create /etc/tmpfiles.d/edge-classifierd.conf
  start_service || roll_back
  if [ -n "$dry_run" ]; then
    say "  Nothing was changed."
    return
  fi
  remove_old_venvs
  report
}

purge_broker() { # remove the device from Home Assistant and its retained messages from the broker
  if [ ! -x "$COMMAND" ] || [ ! -f "$CONFIG_DIR/config.yaml" ]; then return; fi
  local command=(env EDGE_CLASSIFIERD_STATE="$STATE_DIR" "$COMMAND" discovery purge --states --config "$CONFIG_DIR/config.yaml")
  if [ -n "$dry_run" ]; then
    act "${command[@]}"
  elif ! "${command[@]}" >/dev/null; then
    say "  The device's retained messages stay on the broker, for the reason above."
  fi
}

uninstall_system() {
  local entry
  check_machine "$@"
  act systemctl disable --quiet --now "$UNIT" || true
  [ -z "$purge" ] || purge_broker
  for entry in "${SYSTEM_FILES[@]}"; do act rm -f "${entry#*:}"; done
  [ -n "$dry_run" ] || rmdir --ignore-fail-on-non-empty /etc/sysusers.d 2>/dev/null || true
  act rm -f "$COMMAND"
  act rm -rf "$HOME_DIR"
  if [ -n "$purge" ]; then
    act rm -rf "$UNIT_DIR/$UNIT.d" "$CONFIG_DIR" "$STATE_DIR" /run/edge-classifierd
    act rm -f "${CREDENTIALS[@]}"
    if getent passwd edge-classifierd >/dev/null; then act userdel edge-classifierd; fi
    if getent group edge-classifierd >/dev/null; then act groupdel edge-classifierd; fi
  elif [ -z "$dry_run" ]; then
    rmdir "$UNIT_DIR/$UNIT.d" 2>/dev/null || true
  fi
  act systemctl daemon-reload
  act systemctl reset-failed "$UNIT" 2>/dev/null || true
  if [ -S /run/udev/control ]; then act udevadm control --reload || true; fi
  if [ -n "$dry_run" ]; then
    say "  Nothing was changed."
  elif [ -n "$purge" ]; then
    say "  Removed, with its configuration, its events and its user. Debian packages stay."
  else
    say "  Removed. $CONFIG_DIR, $STATE_DIR and the user edge-classifierd stay; --uninstall --purge removes them too."
    say "  The device stays in Home Assistant, and its retained messages on the broker. To remove them, install again and run"
    say "  sudo ./install.sh --uninstall --purge, or: sudo systemctl stop $UNIT; sudo edge-classifierd discovery purge --states"
  fi
}

system_command() { # OPTION...
  local given=("$@") uninstall=
  while [ $# -gt 0 ]; do
    case $1 in
      --upgrade) upgrade=yes ;;
      --uninstall) uninstall=yes ;;
      --purge) purge=yes ;;
      --dry-run) dry_run=yes ;;
      --edge-tpu) edge_tpu=yes ;;
      --web) web=yes ;;
      --wheels)
        [ $# -ge 2 ] || usage_error "--wheels needs a folder"
        wheels=$2
        shift
        ;;
      *) usage_error "unknown option $1" ;;
    esac
    shift
  done
  [ -z "$purge" ] || [ -n "$uninstall" ] || usage_error "--purge goes with --uninstall"
  if [ -n "$uninstall" ]; then
    [ -z "$upgrade$edge_tpu$web$wheels" ] || usage_error "--uninstall goes with --purge and --dry-run only"
    uninstall_system "${given[@]}"
  else
    install_system "${given[@]}"
  fi
}
