#!/usr/bin/env bash
# The recipes of docs/fleet: 20 real daemons are scraped by a real Prometheus; every query of the dashboard is run, every
# alert is made to fire and to resolve, and `fleet` shows all devices. About three minutes. Needs apt and mosquitto.
#   tests/system/monitoring.sh [DEVICES]
# Debian's prometheus is downloaded and unpacked, not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
(cd "$work" && apt-get -q download prometheus >/dev/null 2>&1 && dpkg-deb -x prometheus_*.deb .) || { echo "skipped: Debian's prometheus cannot be downloaded" >&2; exit 77; }
PATH=$PATH:/usr/sbin command -v mosquitto >/dev/null || { echo "skipped: mosquitto is not installed" >&2; exit 77; }
cp docs/fleet/alerts.yml docs/fleet/prometheus.yml tests/system/monitoring/alerts_test.yml "$work"
echo token >"$work/metrics-token"
"$work/usr/bin/promtool" check config "$work/prometheus.yml"
"$work/usr/bin/promtool" test rules "$work/alerts_test.yml"
python=.venv/bin/python
[ -x "$python" ] || python=python3
PYTHONDONTWRITEBYTECODE=1 "$python" tests/system/monitoring/fleet_in_prometheus.py "$work" "${1:-20}"
