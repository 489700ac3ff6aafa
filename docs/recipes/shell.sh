#!/bin/sh
# One function a recipe, for mosquitto-clients and jq: source this file, or copy a line out of it.
broker=${BROKER:-homeassistant.local} port=${PORT:-1883}

# A line for each detection.
detections() {
  mosquitto_sub -h "$broker" -p "$port" -q 1 -t 'edge-classifierd/+/+/event' "$@" |
    jq --unbuffered -r 'select(.type == "detected") | "\(.time) \(.device)/\(.pipeline) \(.watch): \(.label) \(.confidence)"'
}

# How long each thing stayed.
stays() {
  mosquitto_sub -h "$broker" -p "$port" -q 1 -t 'edge-classifierd/+/+/event' "$@" |
    jq --unbuffered -r 'select(.type == "cleared") | "\(.watch) \(.active_s) s"'
}

# What every camera sees now; ends when nothing retained is left.
now() {
  mosquitto_sub -h "$broker" -p "$port" -t 'edge-classifierd/+/+/state' --retained-only -W 2 -F '%t %p' |
    while read -r topic state; do printf '%s ' "$topic"; printf '%s' "$state" | jq -r '"\(.label) \(.confidence)"'; done
}

# Why a device is degraded; nothing when it is well.
reasons() {
  mosquitto_sub -h "$broker" -p "$port" -t 'edge-classifierd/+/health' --retained-only -W 2 | jq -r '.reasons[]'
}

# The picture of the last detection into a file: picture porch driveway dog.jpg
picture() {
  mosquitto_sub -h "$broker" -p "$port" -t "edge-classifierd/$1/$2/image" -C 1 -N >"$3"
}

# threshold porch driveway dog 0.7
threshold() {
  mosquitto_pub -h "$broker" -p "$port" -q 1 -t "edge-classifierd/$1/$2/$3/threshold/set" -m "$4"
}
