#!/usr/bin/env bash
# The daemon in a real Home Assistant with a real mosquitto, from the lab beside the checkout; about five minutes once
# Home Assistant is built (the first run builds it: 1.7 GB below ~/.cache/ha-lab). Needs root, Debian, apt and pip.
#   tests/system/home_assistant.sh [--keep-running]
# HOME_ASSISTANT_LAB names another lab; its own settings (HA_RUN, HA_PORT, MQTT_PORT, HA_SUITE …) go through.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export HOME_ASSISTANT_LAB=${HOME_ASSISTANT_LAB:-$PWD/../shared/lab/home-assistant}
[ -x "$HOME_ASSISTANT_LAB/ha_up.sh" ] || { echo "skipped: no lab at $HOME_ASSISTANT_LAB" >&2; exit 0; }
# An instance of its own: whatever else runs from the lab is left alone.
export HA_RUN=${HA_RUN:-$HOME/.cache/ha-lab/edge-classifierd} MQTT_PORT=${MQTT_PORT:-18884} HA_PORT=${HA_PORT:-8124} HA_WAIT=${HA_WAIT:-300}
python=.venv/bin/python
[ -x "$python" ] || python=python3
stop() { "$HOME_ASSISTANT_LAB/ha_down.sh" >/dev/null || true; }
[ "${1:-}" = --keep-running ] || trap stop EXIT
stop
"$HOME_ASSISTANT_LAB/ha_up.sh" >/dev/null
PYTHONDONTWRITEBYTECODE=1 "$python" tests/system/home_assistant.py
