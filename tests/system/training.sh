#!/usr/bin/env bash
# training.sh training: run by run.sh inside the booted container: measures what a training takes from the installed
# service, under its real unit. It prints the figures of bench/training.py and judges none of them.
set -uo pipefail
# shellcheck source=tests/system/checks.bash
. "$(dirname "$0")/checks.bash"

cd "$checkout" || exit 1
install_service() { ./install.sh >/root/install.log 2>&1 || { cat /root/install.log && false; }; }
check "the service is installed" install_service
for beside in camera saturated; do
  echo "        $beside"
  measure() { /opt/edge-classifierd/venv/bin/python -u bench/training.py --unit --only "$beside" 2>&1 | sed -u 's/^/        /'; }
  measure || failures=$((failures + 1))
done
verdict
