# shellcheck shell=bash
# What the scenarios share: where things are, one line for each thing that must hold, and waiting for it.
# shellcheck disable=SC2034 # used by who sources it
failures=0
config=/etc/edge-classifierd/config.yaml
events=/root/events
checkout=/root/edge-classifierd
unit=edge-classifierd.service

check() { # SENTENCE COMMAND…
  local sentence=$1
  shift
  if "$@" >/root/check.log 2>&1; then
    echo "ok      $sentence"
  else
    echo "FAILED  $sentence"
    tail -n 15 /root/check.log | sed 's/^/        /'
    failures=$((failures + 1))
  fi
}
slack=${SLACK:-1} # times that a machine which others use, too, may take what is allowed
within() { # SECONDS COMMAND…
  local end=$((SECONDS + $1 * slack))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}
property() { systemctl show -P "$1" "$unit"; }
journal() { journalctl -u "$unit" -o cat --no-pager; }
said() { grep -q -- "$1" <<<"$(journal)"; } # no pipe: grep -q would break it, and pipefail tell
says_more_often() { [ "$(journal | grep -c -- "$1")" -gt "$2" ]; }
active() { [ "$(property ActiveState)" = active ]; }
other_process() { [ "$(property MainPID)" != "$1" ] && [ "$(property MainPID)" != 0 ] && active; }
event_count() { wc -l <"$events"; }
more_events() { [ "$(event_count)" -gt "$1" ]; }
numbers() { grep -o '"seq": *[0-9]*' "$events" | grep -o '[0-9]*'; }
none_lost() { # every number from the first to the last has come (repeats are allowed)
  local seen first last
  seen=$(numbers | sort -n -u)
  first=$(head -n 1 <<<"$seen") last=$(tail -n 1 <<<"$seen")
  echo "events $first to $last: $(wc -l <<<"$seen") different, $(numbers | wc -l) in all"
  [ "$(wc -l <<<"$seen")" -eq $((last - first + 1)) ] && [ "$last" -gt "$first" ]
}

broker_with_password() {
  printf 'listener 1883 127.0.0.1\npassword_file /etc/mosquitto/passwords\npersistence false\n' >/etc/mosquitto/conf.d/test.conf
  mosquitto_passwd -b -c /etc/mosquitto/passwords edge s3cret && chown mosquitto: /etc/mosquitto/passwords
}
collect_events() { # CLIENT-ID: in the background, every event from now on
  touch "$events"
  mosquitto_sub -h 127.0.0.1 -u edge -P s3cret -i "$1" -c -q 1 -t 'edge-classifierd/+/+/event' >>"$events" &
}
verdict() { # the scenario's last command
  if [ $failures -eq 0 ]; then
    echo "all as it must be"
    return
  fi
  echo "--- the journal's end"
  journal | tail -n 60
  echo "$failures failed"
  return 1
}
