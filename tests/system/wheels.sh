#!/usr/bin/env bash
# wheels.sh: two builds of packaging/build are equal byte for byte and name no path of this machine; the wheel installs and
# shows the demonstration with each of Python 3.11, 3.12 and 3.13 that is here (on PATH or below pyenv). Needs PyPI. About
# a minute for each Python. tests/system/aarch64.sh does the same on 64-bit ARM.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
check() { # SENTENCE COMMAND…
  local sentence=$1
  shift
  if "$@" >"$work/check.log" 2>&1; then echo "ok      $sentence"; else
    echo "FAILED  $sentence"
    tail -n 15 "$work/check.log" | sed 's/^/        /'
    failures=$((failures + 1))
  fi
}
find_python() { # VERSION
  local candidate
  for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
    if "$candidate" -c "import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}
build_again() { (cd / && umask 077 && TZ=Asia/Tokyo "$repository/packaging/build" "$work/second"); }
names_no_path() { # of this machine
  mkdir "$work/wheel" && python3 -m zipfile -e "$work"/first/*.whl "$work/wheel" && tar -xf "$work"/first/*.tar.gz -C "$work/wheel" &&
    ! grep -rlF -e "$repository" -e "$work" "$work/wheel"
}
shows_events() { # PYTHON VERSION
  local venv=$work/$2
  "$1" -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check --prefer-binary "$(ls "$work"/first/*.whl)[demo]" && "$venv/bin/pip" check &&
    cd "$work" && "$venv/bin/edge-classifierd" --version && "$venv/bin/edge-classifierd" demo --for 10 --json >"$venv/events" &&
    grep -q '"type": *"detected"' "$venv/events" && grep -q '"type": *"cleared"' "$venv/events"
}

check "packaging/build makes wheel and source distribution, and twine accepts them" "$repository/packaging/build" "$work/first"
[ $failures -eq 0 ] || exit 1
cat "$work/check.log"
check "a second build succeeds" build_again
check "and is equal byte for byte" diff -r "$work/first" "$work/second"
check "neither names a path of this machine" names_no_path
missing=()
for version in 3.11 3.12 3.13; do
  if python=$(find_python $version); then
    check "Python $("$python" -c 'import platform; print(platform.python_version())'): the wheel installs and demo shows events" shows_events "$python" $version
  else
    missing+=("$version")
  fi
done
[ ${#missing[@]} -eq 0 ] || echo "skipped: there is no Python ${missing[*]} here"
[ $failures -eq 0 ]
