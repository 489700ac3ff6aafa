import os
from pathlib import Path

import pytest
from config_files import MINIMAL, loaded, sentences
from pydantic import ValidationError

from edge_classifierd.config.sections.base import slug
from edge_classifierd.config.sections.configuration import Configuration
from edge_classifierd.config.sections.pipeline import WatchSection
from edge_classifierd.config.sections.sources import FolderSection, StreamSection
from edge_classifierd.errors import UsageError


def _source(tmp_path: Path, source: str) -> object:
    return loaded(tmp_path, f"pipelines: [{{name: a, source: {source}}}]").configuration.pipelines[0].source


def _pipeline(rest: str) -> str:
    return f"pipelines: [{{name: a, source: {{type: v4l2}}, {rest}}}]"


def _on_yard(keys: str, source: str = "{type: v4l2}") -> str:
    return f"cameras: [{{name: yard, source: {source}}}]\npipelines: [{{name: a, {keys}}}]"


def _two(first: str, second: str) -> str:
    return f"pipelines: [{{name: a, source: {first}}}, {{name: b, source: {second}}}]"


def _watch(rest: str) -> str:
    return _pipeline(f"watches: [{{name: w, labels: [dog], {rest}}}]")


def test_only_a_pipeline_with_a_name_and_a_source_is_needed(tmp_path: Path) -> None:
    configuration = loaded(tmp_path, MINIMAL).configuration
    pipeline = configuration.pipelines[0]
    assert configuration.device.id == (slug(os.uname().nodename.partition(".")[0]) or "edge")
    assert configuration.device.name == configuration.device.id
    assert (configuration.mqtt.host, configuration.mqtt.port, configuration.mqtt.tls) == (("localhost",), 1883, None)
    assert (configuration.mqtt.base_topic, configuration.mqtt.protocol) == ("edge-classifierd", "auto")
    assert (configuration.outbox.max_events, configuration.outbox.max_age) == (100_000, 14 * 86400)
    assert (pipeline.fit, pipeline.crop_fraction, pipeline.top_k, pipeline.ambiguity_margin) == ("crop", 1.0, 5, 0.0)
    assert (pipeline.watches, pipeline.allow, pipeline.deny) == ((), (), ())
    assert (pipeline.model.path, pipeline.model.device) == (None, "auto")
    assert 1 <= pipeline.model.threads <= 4
    assert (pipeline.region.x, pipeline.region.y, pipeline.region.width, pipeline.region.height) == (0, 0, 1, 1)


def test_sections_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        loaded(tmp_path, MINIMAL).configuration.mqtt.port = 5


@pytest.mark.parametrize("section", ["device:", "mqtt:", "outbox:", "mqtt: {}", "outbox: ~"])
def test_an_empty_section_means_its_defaults(tmp_path: Path, section: str) -> None:
    assert loaded(tmp_path, MINIMAL + section + "\n").configuration == loaded(tmp_path, MINIMAL).configuration


def test_the_port_follows_tls_unless_it_is_given(tmp_path: Path) -> None:
    assert loaded(tmp_path, MINIMAL + "mqtt: {tls: {}}").configuration.mqtt.port == 8883
    assert loaded(tmp_path, MINIMAL + "mqtt: {tls: {}, port: 5}").configuration.mqtt.port == 5


def test_release_is_two_thirds_of_the_threshold_unless_it_is_given(tmp_path: Path) -> None:
    def releases(rest: str) -> tuple[float, float]:
        watch = loaded(tmp_path, _watch(rest)).configuration.pipelines[0].watches[0]
        return watch.threshold, watch.release

    assert releases("confirm: 1") == (0.6, 0.4)
    assert releases("threshold: 0.9") == (0.9, 0.6)
    assert releases("threshold: 0.5, release: 0.5") == (0.5, 0.5)
    assert releases("threshold: 1.0e-9")[1] > 0


def test_a_region_reaches_to_the_edges_unless_its_size_is_given(tmp_path: Path) -> None:
    region = loaded(tmp_path, _pipeline("region: {x: 0.25, y: 0.1, height: 0.9}")).configuration.pipelines[0].region
    assert (region.width, region.height) == (0.75, 0.9)


def test_no_more_pictures_per_second_than_asked_and_zero_means_as_fast_as_possible(tmp_path: Path) -> None:
    for written, fps in (("", 5), (", fps: 2", 2), (", fps: 0", None), (", fps: null", None), (", fps: 0.5", 0.5)):
        source = _source(tmp_path, f"{{type: folder, path: x{written}}}")
        assert isinstance(source, FolderSection)
        assert source.fps == fps


def test_label_selectors_keep_the_difference_between_a_number_and_a_text(tmp_path: Path) -> None:
    text = _pipeline('watches: [{name: w, labels: [151, "151", "151-268", "*cat*", on, 0755]}]')
    assert loaded(tmp_path, text).configuration.pipelines[0].watches[0].labels == (
        151,
        "151",
        "151-268",
        "*cat*",
        "on",
        "0755",
    )


def test_relative_paths_begin_at_the_file_and_the_outbox_at_the_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("EDGE_CLASSIFIERD_STATE", raising=False)
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    text = """
mqtt: {tls: {ca_file: ca.pem, cert_file: /etc/cert.pem, key_file: ~/key.pem}}
pipelines:
  - {name: a, source: {type: folder, path: pictures}, model: {path: ../m.tflite, labels: ~/l.txt}}
  - {name: b, source: {type: stream, url: films/a.mp4}}
  - {name: c, source: {type: v4l2, device: /dev/video2}}
"""
    configuration = loaded(tmp_path, text).configuration
    tls, (a, b, c) = configuration.mqtt.tls, configuration.pipelines
    assert tls is not None
    assert (tls.ca_file, tls.cert_file) == (tmp_path / "ca.pem", Path("/etc/cert.pem"))
    assert tls.key_file == Path("/home/somebody/key.pem")
    assert a.source.path == tmp_path / "pictures"
    assert (a.model.path, a.model.labels) == (tmp_path / "../m.tflite", Path("/home/somebody/l.txt"))
    assert b.source.url == str(tmp_path / "films/a.mp4")
    assert c.source.device == Path("/dev/video2")
    assert configuration.outbox.path == Path("/var/lib/one/outbox.sqlite3")
    monkeypatch.setenv("EDGE_CLASSIFIERD_STATE", "/elsewhere")
    assert loaded(tmp_path, text).configuration.outbox.path == Path("/elsewhere/outbox.sqlite3")


def test_a_relative_state_directory_below_a_folder_that_is_gone_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("EDGE_CLASSIFIERD_STATE", "state")
    with pytest.raises(UsageError, match=r"EDGE_CLASSIFIERD_STATE=state: .* give an absolute path"):
        loaded(tmp_path, MINIMAL)
    monkeypatch.setenv("EDGE_CLASSIFIERD_STATE", str(tmp_path))
    assert loaded(tmp_path, MINIMAL).configuration.outbox.path == tmp_path / "outbox.sqlite3"


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://camera/1",
        "RTSPS://u:p@camera:554/x",
        "http://camera/mjpeg?a=b",
        "https://[::1]/",
        "https://[::1]:8443/",
        "rtsp://u:p:q@camera:554",
        "http://camera:/",
        "rtsp://u@camera/a:b@c",
        "http://x:80?a:b",
    ],
)
def test_addresses_stay_as_they_are(tmp_path: Path, url: str) -> None:
    source = _source(tmp_path, f'{{type: stream, url: "{url}"}}')
    assert isinstance(source, StreamSection)
    assert source.url.partition("://")[2] == url.partition("://")[2]


@pytest.mark.parametrize("word", ["yes", "on", "true", "True", '"on"'])
def test_words_for_true_are_understood_where_a_boolean_is_wanted(tmp_path: Path, word: str) -> None:
    source = _source(tmp_path, f"{{type: folder, path: x, loop: {word}}}")
    assert isinstance(source, FolderSection)
    assert source.loop is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            _pipeline("region: {x: 0.5, width: 0.6}"),
            "region.width: reaches outside the picture: x 0.5 plus 0.6 is more than 1",
        ),
        (_pipeline("region: {y: 0.5, height: 0.6}"), "region.height: reaches outside the picture: y 0.5 plus 0.6"),
        (_pipeline("region: {x: 1}"), "region.x: must be a number at least 0 and below 1, not 1"),
        (_pipeline("crop_fraction: 0"), "crop_fraction: must be a number above 0 and at most 1, not 0"),
        (_pipeline("top_k: 2.0"), "top_k: must be a whole number between 1 and 100, not 2"),
        (
            _pipeline("fit: leterbox"),
            "fit: must be one of crop, letterbox, stretch, not 'leterbox'; did you mean `letterbox`?",
        ),
        (_pipeline("snapshot: {quality: 96}"), "snapshot.quality: must be a whole number between 1 and 95, not 96"),
        (_pipeline("ambiguity_margin: .nan"), "ambiguity_margin: must be a number between 0 and 1, not '.nan'"),
        (_pipeline("ambiguity_margin: 1e999"), "ambiguity_margin: must be a number between 0 and 1, not inf"),
        (_pipeline("model: {threads: true}"), "model.threads: must be a whole number between 1 and 64, not true"),
        (_pipeline("model: {locale: '!'}"), "model.locale: must be a language such as de or pt-BR, or null, not '!'"),
        (_pipeline("allow: cat"), "allow: must be a list, not 'cat'; put it in [ ]"),
        (_watch("threshold: high"), "threshold: must be a number above 0 and at most 1, not 'high'"),
        (_watch("threshold: 0.5, release: 0.6"), "release: must not be above `threshold`: 0.6 is more than 0.5"),
        (_watch("confirm: 0"), "confirm: must be a whole number between 1 and 1000, not 0"),
        (_watch("cooldown: 5 minutes"), "cooldown: must be a duration such as 250ms, 30s, 5m, 2h, 14d or a number of"),
        (_pipeline("watches: [{name: w, labels: []}]"), "watches[0].labels: must not be empty"),
        (
            _pipeline("watches: [{name: w, labels: [true]}]"),
            "labels[0]: must be a label, a glob over labels, a class index",
        ),
        (
            _pipeline("watches: [{name: w, labels: [-1]}]"),
            "labels[0]: must be a label, a glob over labels, a class index",
        ),
        (_pipeline("watches: [{labels: [a]}]"), "watches[0].name: is missing; it must be 1 to 64 of the characters"),
        (
            _pipeline("watches: [{name: w, labels: [a]}, {name: w, labels: [a]}]"),
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
            _pipeline("top_k: 1")[:-1] + ", {name: b, source: {type: v4l2}}]",
            "pipelines[1].source.type: pipeline number 1 uses this",
        ),
        (_two("{type: v4l2}", "{type: v4l2, device: /dev//video0}"), "source.device: pipeline number 1 uses this"),
        (_two("{type: v4l2}", "{type: v4l2, device: //dev/./video0}"), "source.device: pipeline number 1 uses"),
        (_two("{type: picamera2}", "{type: picamera2}"), "[1].source.type: pipeline number 1 uses this camera"),
        (_two("{type: picamera2, camera: 0}", "{type: picamera2, camera: 0}"), "source.camera: pipeline number 1"),
        (_two("{type: picamera2, camera: imx708}", "{type: picamera2, camera: IMX708}"), "camera: pipeline number 1"),
        (_on_yard("camera: yard, source: {type: picamera2}"), "pipelines[0].camera: cannot be used with `source`"),
        (_on_yard("camera: gate"), "pipelines[0].camera: `cameras` has no `gate`; it has yard"),
        (_on_yard("camera: yart"), "pipelines[0].camera: `cameras` has no `yart`; did you mean `yard`?"),
        ("pipelines: [{name: a, camera: yard}]", "pipelines[0].camera: `cameras` has no `yard`; add it there"),
        ("pipelines: [{name: a}]", "pipelines[0].source: is missing; write a `source`, or `camera` with a name of"),
        (_on_yard("camera: 5"), "pipelines[0].camera: must be 1 to 64 of the characters"),
        (_on_yard("source: {type: v4l2}"), "pipelines[0].source.type: camera number 1 uses this camera already; write"),
        (_on_yard("camera: yard, max_fps: 0"), "pipelines[0].max_fps: must be a number above 0"),
        (_on_yard("camera: yard", "{type: folder, path: x}, extra: 1"), "cameras[0].extra: unknown key `extra`"),
        (_on_yard("camera: yard, max_fps: 2", "{type: folder, path: x}"), "pipelines[0].max_fps: leaves out pictures"),
        (
            "pipelines: [{name: a, max_fps: 2, source: {type: folder, path: x}}]",
            "max_fps: leaves out pictures",
        ),
        (
            _on_yard("camera: yard", "{type: picamera2, region_in_camera: true}"),
            "region_in_camera: is for the camera",
        ),
        (_on_yard("camera: yard", "{type: v4l2, fps: x}"), "cameras[0].source.fps: must be a number above 0"),
        (
            _two("{type: v4l2}", "{type: v4l2}"),
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
        (_watch("threshhold: 0.5"), "threshhold: unknown key `threshhold`; did you mean `threshold`?"),
    ],
)
def test_what_cannot_work_is_said_in_one_plain_sentence(tmp_path: Path, text: str, message: str) -> None:
    found = sentences(tmp_path, text)
    assert len(found) == 1, found
    assert message in found[0]


@pytest.mark.parametrize(
    "host", ["localhost", "broker.local.", "my_broker", "192.168.1.5", "::1", "fe80::1%eth0", "küche.local"]
)
def test_a_broker_is_named_or_addressed(tmp_path: Path, host: str) -> None:
    assert loaded(tmp_path, f"{MINIMAL}mqtt:\n  host: {host}\n").configuration.mqtt.host == (host,)


def test_brokers_can_be_a_list(tmp_path: Path) -> None:
    mqtt = loaded(tmp_path, f"{MINIMAL}mqtt:\n  host: [a, '::1']\n  username: ''\n").configuration.mqtt
    assert (mqtt.host, mqtt.username) == (("a", "::1"), None)


def test_a_password_in_the_brokers_address_is_not_shown(tmp_path: Path) -> None:
    (said,) = sentences(tmp_path, MINIMAL + "mqtt: {host: 'mqtts://me:hunter2@broker'}")
    assert "hunter2" not in said
    assert "an account in `mqtt.username` and `mqtt.password`" in said


def test_pipelines_that_name_a_camera_have_its_source(tmp_path: Path) -> None:
    text = _on_yard("camera: yard}, {name: b, camera: yard")
    document = loaded(tmp_path, text)
    camera = document.configuration.cameras[0]
    assert all(pipeline.source is camera.source for pipeline in document.configuration.pipelines)
    assert [document.source_key(*each) for each in document.pipelines] == ["cameras[0].source"] * 2


def test_a_camera_without_pipelines_and_an_empty_list_of_cameras_are_valid(tmp_path: Path) -> None:
    assert loaded(tmp_path, MINIMAL + "cameras: [{name: yard, source: {type: v4l2}}]").configuration.cameras
    assert not loaded(tmp_path, MINIMAL + "cameras:").configuration.cameras


def test_different_cameras_serve_different_pipelines(tmp_path: Path) -> None:
    for first, second in (
        ("{type: picamera2}", "{type: picamera2, camera: 1}"),
        ("{type: picamera2, camera: imx708}", "{type: picamera2, camera: imx219}"),
        ("{type: picamera2}", "{type: v4l2}"),
        ("{type: v4l2}", "{type: v4l2, device: /dev/video1}"),
    ):
        assert len(loaded(tmp_path, _two(first, second)).configuration.pipelines) == 2


@pytest.mark.parametrize("key", ["motion", "web", "region_in_camera"])
def test_keys_of_features_that_are_not_there_yet_are_unknown(tmp_path: Path, key: str) -> None:
    assert f"unknown key `{key}`" in sentences(tmp_path, _pipeline(f"{key}: {{}}"))[0]


def test_two_watches_of_different_pipelines_may_share_a_name(tmp_path: Path) -> None:
    watches = "watches: [{name: w, labels: [a]}]"
    other = f"{{name: b, source: {{type: folder, path: x}}, {watches}}}"
    text = f"{_pipeline(watches)[:-1]}, {other}]"
    assert len(loaded(tmp_path, text).configuration.pipelines) == 2


def test_sections_can_be_made_without_a_file() -> None:
    watch = WatchSection(name="dog", labels=["*terrier*", 5])
    assert (watch.labels, watch.release) == (("*terrier*", 5), 0.4)
    made = Configuration(pipelines=[{"name": "a", "source": {"type": "folder", "path": "x"}}])
    assert made.pipelines[0].source == FolderSection(type="folder", path=Path("x"))


@pytest.mark.parametrize(
    ("name", "made"), [("Porch Cam", "porch-cam"), ("Küche", "k-che"), ("___", "___"), ("äöü", "")]
)
def test_a_name_is_made_fit_for_a_topic(name: str, made: str) -> None:
    assert slug(name) == made


@pytest.mark.parametrize(
    "url",
    ["http://cam/picture?user=me@home", "rtsp://a:b%40c@cam:554/1", "udp://@239.0.0.1:5000", "tcp://cam:5000",
     "rtmp://cam/live/stream", "rtsp://[::1]:554/1", "rtsp://me@cam/1"],
)  # fmt: skip
def test_addresses_of_cameras_are_taken(tmp_path: Path, url: str) -> None:
    source = (
        loaded(tmp_path, f"pipelines: [{{name: a, source: {{type: stream, url: '{url}'}}}}]")
        .configuration.pipelines[0]
        .source
    )
    assert source.type == "stream"
    assert source.url == url


@pytest.mark.parametrize(
    ("written", "meant"),
    [("GREY", "gray"), ("UYVY", "uyvy422"), ("YUYV", "yuyv422"), ("MJPG", "mjpeg"), ("H264", "h264"), ("h264", "h264")],
)
def test_the_formats_of_a_usb_camera_have_the_names_of_v4l2_ctl_too(tmp_path: Path, written: str, meant: str) -> None:
    source = (
        loaded(tmp_path, f"pipelines: [{{name: a, source: {{type: v4l2, input_format: {written}}}}}]")
        .configuration.pipelines[0]
        .source
    )
    assert source.type == "v4l2"
    assert source.input_format == meant


@pytest.mark.parametrize(
    ("keys", "below"),
    [("", False), ("recursive: true", True), ("watch: true", True), ("watch: true, recursive: false", False)],
)
def test_a_watched_folder_includes_the_folders_below_unless_told_otherwise(
    tmp_path: Path, keys: str, below: bool
) -> None:
    source = (
        loaded(tmp_path, f"pipelines: [{{name: a, source: {{type: folder, path: x, {keys}}}}}]")
        .configuration.pipelines[0]
        .source
    )
    assert source.type == "folder"
    assert source.includes_below is below
