"""Mistakes in a section: each gives one sentence with the place and what is allowed."""

from pathlib import Path

import pytest
from config_files import MINIMAL, pipeline_on_yard, pipeline_with, sentences, two_pipelines, watch_with


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            pipeline_with("region: {x: 0.5, width: 0.6}"),
            "region.width: reaches outside the picture: x 0.5 plus 0.6 is more than 1",
        ),
        (pipeline_with("region: {y: 0.5, height: 0.6}"), "region.height: reaches outside the picture: y 0.5 plus 0.6"),
        (pipeline_with("region: {x: 1}"), "region.x: must be a number at least 0 and below 1, not 1"),
        (pipeline_with("crop_fraction: 0"), "crop_fraction: must be a number above 0 and at most 1, not 0"),
        (
            pipeline_with("active: 6-22"),
            'active: must be a range of times such as "06:00-22:30" or "sunrise-30m - sunset"',
        ),
        (pipeline_with("active: [06:00-22:00, 25:00-26:00]"), "active: '25:00-26:00': has no clock time 25:00"),
        (pipeline_with("active: 06:00"), "active: must be a range of times such as"),
        (pipeline_with("active: 600"), "active: must be a range of times such as"),
        (
            pipeline_with("active: sunrise - sunset"),
            "active: has sun times; add the place: `device: {location: {latitude: 52.5, longitude: 13.4}}`",
        ),
        (
            "device: {location: {latitude: 91, longitude: 0}}\n" + MINIMAL,
            "latitude: must be a number between -90 and 90",
        ),
        ("device: {location: {latitude: 52}}\n" + MINIMAL, "device.location.longitude: is missing"),
        (pipeline_with("top_k: 2.0"), "top_k: must be a whole number between 1 and 100, not 2"),
        (
            pipeline_with("fit: leterbox"),
            "fit: must be one of crop, letterbox, stretch, not 'leterbox'; did you mean `letterbox`?",
        ),
        (pipeline_with("snapshot: {quality: 96}"), "snapshot.quality: must be a whole number between 1 and 95, not 96"),
        (pipeline_with("ambiguity_margin: .nan"), "ambiguity_margin: must be a number between 0 and 1, not '.nan'"),
        (pipeline_with("ambiguity_margin: 1e999"), "ambiguity_margin: must be a number between 0 and 1, not inf"),
        (pipeline_with("model: {threads: true}"), "model.threads: must be a whole number between 1 and 64, not true"),
        (
            pipeline_with("model: {locale: '!'}"),
            "model.locale: must be a language such as de or pt-BR, or null, not '!'",
        ),
        (pipeline_with("allow: cat"), "allow: must be a list, not 'cat'; put it in [ ]"),
        (watch_with("threshold: high"), "threshold: must be a number above 0 and at most 1, not 'high'"),
        (watch_with("threshold: 0.5, release: 0.6"), "release: must not be above `threshold`: 0.6 is more than 0.5"),
        (watch_with("confirm: 0"), "confirm: must be a whole number between 1 and 1000, not 0"),
        (
            watch_with("cooldown: 5 minutes"),
            "cooldown: must be a duration such as 250ms, 30s, 5m, 2h, 14d or a number of",
        ),
        (pipeline_with("watches: [{name: w, labels: []}]"), "watches[0].labels: must not be empty"),
        (
            pipeline_with("watches: [{name: w, labels: [true]}]"),
            "labels[0]: must be a label, a glob over labels, a class index",
        ),
        (
            pipeline_with("watches: [{name: w, labels: [-1]}]"),
            "labels[0]: must be a label, a glob over labels, a class index",
        ),
        (
            pipeline_with("watches: [{labels: [a]}]"),
            "watches[0].name: is missing; it must be 1 to 64 of the characters",
        ),
        (
            pipeline_with("watches: [{name: w, labels: [a]}, {name: w, labels: [a]}]"),
            "watches[1].name: must be unique; watch number 1",
        ),
        ("pipelines: []", "pipelines: must not be empty"),
        ("device: {id: x}", "pipelines: is missing; it must be a list"),
        (
            "pipelines: [{name: Drive Way, source: {type: v4l2}}]",
            "name: must be 1 to 64 of the characters a-z, 0-9, _ and -, not 'Drive Way'; `drive-way` would do",
        ),
        (
            "pipelines: [{name: a, source: {type: strem}}]",
            "source.type: must be one of folder, picamera2, snapshot, stream, v4l2, not 'strem'; did you mean `stream`",
        ),
        (
            "pipelines: [{name: a, source: {path: x}}]",
            "source.type: is missing; it must be one of folder, picamera2, snapshot, stream, v4l2",
        ),
        ("pipelines: [{name: a, source: }]", "source: must be a mapping of keys, not null"),
        ("pipelines: [{name: a, source: {type: folder, path: x, fps: -1}}]", "source.fps: must be a number above 0"),
        (
            "pipelines: [{name: a, source: {type: folder, path: x, rotation: false}}]",
            "source.rotation: must be one of 0, 90, 180,",
        ),
        (
            "pipelines: [{name: a, source: {type: folder, path: x, stall_timeout: 5}}]",
            "source.stall_timeout: unknown key",
        ),
        (
            "pipelines: [{name: a, source: {type: folder, path: '~nobody-here/x'}}]",
            "source.path: begins with ~, but that user",
        ),
        ("pipelines: [{name: a, source: {type: v4l2, stall_timeout: 0}}]", "source.stall_timeout: must be a duration"),
        (
            "pipelines: [{name: a, source: {type: stream, url: 'rtsp://x', loop: yes}}]",
            "source.loop: is for video files",
        ),
        (
            "pipelines: [{name: a, source: {type: stream, url: 'rtsp://x', paced: no}}]",
            "source.paced: is for video files",
        ),
        (
            "pipelines: [{name: a, source: {type: stream, url: 'http://x/a.mp4', loop: yes}}]",
            "source.loop: is for video files",
        ),
        (
            "pipelines: [{name: a, source: {type: stream, url: 'rtsp:/u:secret@x/'}}]",
            "source.url: needs two slashes after `rtsp:`",
        ),
        (
            "pipelines: [{name: a, source: {type: stream, url: 'ftp://u:p@x/'}}]",
            "source.url: must be a file or begin with one of",
        ),
        ("pipelines: [{name: a, source: {type: stream, url: 'rtsp://u:p@'}}]", "source.url: names no host"),
        (
            "pipelines: [{name: a, source: {type: stream, url: 'rtsp://u:p/w@x/1'}}]",
            "source.url: has a port that is no number; in a password write / as %2F",
        ),
        ("pipelines: [{name: a, source: {type: stream, url: 'http://x:live'}}]", "source.url: has a port that is no"),
        (
            "pipelines: [{name: a, source: {type: stream, url: 'rtsp://admin:2024#cam@127.0.0.1:554/live'}}]",
            "source.url: has an @ behind the first /, ? or #; in a password write / as %2F, ? as %3F, # as %23",
        ),
        (
            "pipelines: [{name: a, source: {type: stream, url: 'rtsp://admin:12/34@127.0.0.1:554/live'}}]",
            "source.url: has an @ behind the first /, ? or #; in a password write / as %2F, ? as %3F, # as %23",
        ),
        (
            "pipelines: [{name: a, source: {type: stream, url: 'rtsp://admin:12@34/56@127.0.0.1:9/video'}}]",
            "source.url: has an @ behind the first /, ? or #; in a password write / as %2F",
        ),
        (
            "pipelines: [{name: a, source: {type: stream, url: 'rtsp://ad/min:1234@127.0.0.1/video'}}]",
            "source.url: has an @ behind the first /, ? or #",
        ),
        (
            "pipelines: [{name: a, source: {type: snapshot, url: 'http://a[b/c@127.0.0.1/picture'}}]",
            "source.url: has [ or ] in its host, which is no IPv6 address; in a password write / as %2F",
        ),
        (
            "pipelines: [{name: a, source: {type: stream, url: 'http://[::1/'}}]",
            "source.url: has [ or ] in its host, which is no IPv6 address",
        ),
        ("pipelines: [{name: a, source: {type: stream, url: 'http:///video'}}]", "source.url: names no host"),
        (
            "pipelines: [{name: a, source: {type: stream, url: 'http://x:99999/'}}]",
            "source.url: has a port that is not between 1 and 65535",
        ),
        (
            "pipelines: [{name: a, source: {type: snapshot, url: 'rtsp://x/'}}]",
            "source.url: must begin with http:// or https://",
        ),
        (
            "pipelines: [{name: a, source: {type: stream, url: 'https://x/', ca_file: a.pem}}]",
            "source.ca_file: needs `verify: true`",
        ),
        (
            "pipelines: [{name: a, source: {type: folder, path: x, watch: true, loop: true}}]",
            "source.watch: cannot be used with `loop`",
        ),
        (
            "pipelines: [{name: a, source: {type: folder, path: x, after: delete}}]",
            "source.after: can be `delete` with `watch: true` only",
        ),
        (
            pipeline_with("top_k: 1")[:-1] + ", {name: b, source: {type: v4l2}}]",
            "pipelines[1].source.type: pipeline number 1 uses this",
        ),
        (
            two_pipelines("{type: v4l2}", "{type: v4l2, device: /dev//video0}"),
            "source.device: pipeline number 1 uses this",
        ),
        (
            two_pipelines("{type: v4l2}", "{type: v4l2, device: //dev/./video0}"),
            "source.device: pipeline number 1 uses",
        ),
        (
            two_pipelines("{type: picamera2}", "{type: picamera2}"),
            "[1].source.type: pipeline number 1 uses this camera",
        ),
        (
            two_pipelines("{type: picamera2, camera: 0}", "{type: picamera2, camera: 0}"),
            "source.camera: pipeline number 1",
        ),
        (
            two_pipelines("{type: picamera2, camera: imx708}", "{type: picamera2, camera: IMX708}"),
            "camera: pipeline number 1",
        ),
        (
            pipeline_on_yard("camera: yard, source: {type: picamera2}"),
            "pipelines[0].camera: cannot be used with `source`",
        ),
        (pipeline_on_yard("camera: gate"), "pipelines[0].camera: `cameras` has no `gate`; it has yard"),
        (pipeline_on_yard("camera: yart"), "pipelines[0].camera: `cameras` has no `yart`; did you mean `yard`?"),
        ("pipelines: [{name: a, camera: yard}]", "pipelines[0].camera: `cameras` has no `yard`; add it there"),
        ("pipelines: [{name: a}]", "pipelines[0].source: is missing; write a `source`, or `camera` with a name of"),
        (pipeline_on_yard("camera: 5"), "pipelines[0].camera: must be 1 to 64 of the characters"),
        (
            pipeline_on_yard("source: {type: v4l2}"),
            "pipelines[0].source.type: camera number 1 uses this camera already; write",
        ),
        (pipeline_on_yard("camera: yard, max_fps: 0"), "pipelines[0].max_fps: must be a number above 0"),
        (
            pipeline_on_yard("camera: yard", "{type: folder, path: x}, extra: 1"),
            "cameras[0].extra: unknown key `extra`",
        ),
        (
            pipeline_on_yard("camera: yard, max_fps: 2", "{type: folder, path: x}"),
            "pipelines[0].max_fps: leaves out pictures",
        ),
        (
            "pipelines: [{name: a, motion: {enabled: true}, source: {type: folder, path: x}}]",
            "pipelines[0].motion.enabled: is for cameras and videos",
        ),
        (
            pipeline_on_yard('camera: yard, motion: {enabled: "on"}', "{type: folder, path: x}"),
            "pipelines[0].motion.enabled: is for cameras and videos",
        ),
        (pipeline_with("motion: {follow: true}"), "motion.follow: is part of the motion gate; add `enabled: true`"),
        (
            pipeline_with("motion: {enabled: true, smallest: 0.6}"),
            "motion.smallest: must be a number between 0.005 and 0.5",
        ),
        (pipeline_with("motion: {enabled: true, hold: 0s}"), "motion.hold: must be"),
        (pipeline_with("motion: {enabled: true, ignore: [{x: 0.9, width: 0.2}]}"), "ignore[0].width: reaches outside"),
        (pipeline_with("snapshot: {show: box}"), "snapshot.show: must be one of frame, crop"),
        (
            "pipelines: [{name: a, max_fps: 2, source: {type: folder, path: x}}]",
            "max_fps: leaves out pictures",
        ),
        (
            pipeline_on_yard("camera: yard", "{type: picamera2, region_in_camera: true}"),
            "region_in_camera: is for the camera",
        ),
        (pipeline_on_yard("camera: yard", "{type: v4l2, fps: x}"), "cameras[0].source.fps: must be a number above 0"),
        (
            two_pipelines("{type: v4l2}", "{type: v4l2}"),
            "pipeline number 1 uses this camera already; define it once",
        ),
        ("pipelines: [{name: a, source: {type: v4l2, device: ''}}]", "source.device: must be a path, not ''"),
        (MINIMAL + "mqtt: {host: mqtt://broker:1883}", "mqtt.host: must be the broker's name or address alone"),
        (MINIMAL + "mqtt: {host: 127.0.0.1:1883}", "host: must be the broker's name or address alone; put the port in"),
        (MINIMAL + "mqtt: {host: '[::1]:1883'}", "host: must be the broker's name or address alone; put the port in"),
        (MINIMAL + "mqtt: {host: a b}", "mqtt.host: must be the broker's name or address, without spaces"),
        (MINIMAL + "mqtt: {host: ''}", "mqtt.host: must not be empty"),
        (MINIMAL + "mqtt: {host: []}", "mqtt.host: must not be empty"),
        (MINIMAL + "mqtt: {host: '[::1]'}", "mqtt.host: must have no brackets; write ::1"),
        (MINIMAL + "mqtt: {host: 'a, b'}", "mqtt.host: is one name or a list; write [a, b]"),
        (MINIMAL + "mqtt: {host: [a, '[::1]']}", "mqtt.host[1]: must have no brackets; write ::1"),
        (MINIMAL + "mqtt: {host: 5}", "mqtt.host: must be a name or address, or a list of them, not 5; put it in"),
        (MINIMAL + "mqtt: {transport: ws}", "mqtt.transport: must be one of tcp, websockets, not 'ws'"),
        (MINIMAL + "mqtt: {websocket_path: x}", "mqtt.websocket_path: must be a path such as /mqtt, not 'x'"),
        (MINIMAL + "mqtt: {tls: 5}", "mqtt.tls: must be a mapping of keys, not 5"),
        (
            MINIMAL + MINIMAL.split("\n", 1)[1],
            "pipelines[1].name: must be unique; pipeline number 1 has this name already",
        ),
        (MINIMAL + "mqtt: {password: x}", "mqtt.password: needs `username` beside it"),
        (
            MINIMAL + "mqtt: {tls: }",
            "mqtt.tls: is empty: write `{}` to trust the system's authorities, or remove the key",
        ),
        (MINIMAL + "mqtt: {tls: {key_file: x}}", "mqtt.tls.key_file: needs `cert_file` beside it"),
        (
            MINIMAL + "mqtt: {port: '1883'}",
            "mqtt.port: must be a whole number between 1 and 65535, not '1883'; write it without q",
        ),
        (MINIMAL + "mqtt: {username: 5}", "mqtt.username: must be text, or null, not 5; put it in quotes"),
        (MINIMAL + "mqtt: {base_topic: a/#}", "mqtt.base_topic: must have no #, + or control characters"),
        (MINIMAL + 'mqtt: {base_topic: "a\\nb"}', "mqtt.base_topic: must have no #, + or control characters"),
        (MINIMAL + "mqtt: {protocol: 3.1}", "mqtt.protocol: must be one of auto, 5, 3.1.1, not 3.1"),
        (MINIMAL + "mqtt: {threshhold: 5}", "mqtt.threshhold: unknown key `threshhold`; allowed here are host, port"),
        (MINIMAL + "outbox: {path: 5}", "outbox.path: must be a path, not 5"),
        (MINIMAL + "outbox: 5", "outbox: must be a mapping of keys, not 5"),
        (MINIMAL + "devise: {}", "devise: unknown key `devise`; did you mean `device`?"),
        (watch_with("threshhold: 0.5"), "threshhold: unknown key `threshhold`; did you mean `threshold`?"),
    ],
)
def test_what_cannot_work_is_said_in_one_plain_sentence(tmp_path: Path, text: str, message: str) -> None:
    found = sentences(tmp_path, text)
    assert len(found) == 1, found
    assert message in found[0]
