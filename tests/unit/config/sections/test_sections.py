import os
from pathlib import Path

import pytest
from config_files import MINIMAL, loaded, pipeline_on_yard, pipeline_with, sentences, two_pipelines, watch_with
from pydantic import ValidationError

from edge_classifierd.config.sections.base import slug
from edge_classifierd.config.sections.configuration import Configuration
from edge_classifierd.config.sections.pipeline import WatchSection
from edge_classifierd.config.sections.sources import FolderSection, StreamSection
from edge_classifierd.errors import UsageError


def _source(tmp_path: Path, source: str) -> object:
    return loaded(tmp_path, f"pipelines: [{{name: a, source: {source}}}]").configuration.pipelines[0].source


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
        watch = loaded(tmp_path, watch_with(rest)).configuration.pipelines[0].watches[0]
        return watch.threshold, watch.release

    assert releases("confirm: 1") == (0.6, 0.4)
    assert releases("threshold: 0.9") == (0.9, 0.6)
    assert releases("threshold: 0.5, release: 0.5") == (0.5, 0.5)
    assert releases("threshold: 1.0e-9")[1] > 0


def test_a_region_reaches_to_the_edges_unless_its_size_is_given(tmp_path: Path) -> None:
    region = loaded(tmp_path, pipeline_with("region: {x: 0.25, y: 0.1, height: 0.9}")).configuration.pipelines[0].region
    assert (region.width, region.height) == (0.75, 0.9)


def test_no_more_pictures_per_second_than_asked_and_zero_means_as_fast_as_possible(tmp_path: Path) -> None:
    for written, fps in (("", 5), (", fps: 2", 2), (", fps: 0", None), (", fps: null", None), (", fps: 0.5", 0.5)):
        source = _source(tmp_path, f"{{type: folder, path: x{written}}}")
        assert isinstance(source, FolderSection)
        assert source.fps == fps


def test_label_selectors_keep_the_difference_between_a_number_and_a_text(tmp_path: Path) -> None:
    text = pipeline_with('watches: [{name: w, labels: [151, "151", "151-268", "*cat*", on, 0755]}]')
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
    text = pipeline_on_yard("camera: yard}, {name: b, camera: yard")
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
        assert len(loaded(tmp_path, two_pipelines(first, second)).configuration.pipelines) == 2


@pytest.mark.parametrize("key", ["web", "region_in_camera"])
def test_keys_of_features_that_are_not_there_yet_are_unknown(tmp_path: Path, key: str) -> None:
    assert f"unknown key `{key}`" in sentences(tmp_path, pipeline_with(f"{key}: {{}}"))[0]


def test_two_watches_of_different_pipelines_may_share_a_name(tmp_path: Path) -> None:
    watches = "watches: [{name: w, labels: [a]}]"
    other = f"{{name: b, source: {{type: folder, path: x}}, {watches}}}"
    text = f"{pipeline_with(watches)[:-1]}, {other}]"
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
