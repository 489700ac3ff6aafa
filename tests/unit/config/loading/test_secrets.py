import traceback
from pathlib import Path

import pytest
from config_files import MINIMAL, loaded, problems, sentences, written

from edge_classifierd.config.loading import secrets
from edge_classifierd.config.loading.load import load
from edge_classifierd.config.sections.configuration import Configuration
from edge_classifierd.errors import ConfigurationError

_SECRET = "hunter2-ß"


def _password(value: str) -> str:
    return MINIMAL + f"mqtt: {{username: edge, password: {value}}}\n"


def _revealed(configuration: Configuration) -> str | None:
    password = configuration.mqtt.password
    return password.get_secret_value() if password else None


def test_a_password_comes_from_a_credential_a_variable_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/mqtt_password").write_text(_SECRET + "\n")
    (tmp_path / "secret.txt").write_text(_SECRET + "\r\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    monkeypatch.setenv("MQTT_PASSWORD", _SECRET)
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("!credential mqtt_password", "!env MQTT_PASSWORD", "!file secret.txt", '!file "~/secret.txt"'):
        assert _revealed(loaded(tmp_path, _password(value)).configuration) == _SECRET


def test_only_one_newline_is_taken_from_the_end_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(" a b \n\n")
    assert _revealed(loaded(tmp_path, _password("!file secret")).configuration) == " a b \n"


@pytest.mark.parametrize("address", [f"rtsp://user:{_SECRET}@camera/1", f"rtsp://user:1%2F{_SECRET}@camera/1",
                                     f"http://camera/1?user=me&pwd={_SECRET}"])  # fmt: skip
def test_a_secret_shows_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("CAMERA", address)
    text = _password(f'"{_SECRET}"') + "\n"
    text = text.replace("source: {type: folder, path: pictures}", "source: {type: stream, url: !env CAMERA}")
    document = loaded(tmp_path, text)
    source = document.configuration.pipelines[0].source
    assert source.url == address  # type: ignore[union-attr]
    configuration = document.configuration
    for shown in (
        repr(document),
        str(configuration),
        configuration.model_dump_json(),
        str(configuration.model_dump()),
        repr(source),
    ):
        assert "hunter2" not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        _password("[hunter2]"),
        _password("{hunter2: 5}"),
        _password("!hunter2"),
        _password("!hunter2!x y"),
        _password("*hunter2"),
        _password("'hunter2"),
        _password("@hunter2"),
        _password("hunter2: hunter2"),
        _password('"\\0hunter2"'),
        _password("5552368.5"),
        MINIMAL + "mqtt: {password: hunter2}",
        MINIMAL + "mqtt: {pasword: hunter2}",
        MINIMAL + "mqtt: {username: a, password: hunter2, password: hunter2x}",
        _password("!file not/there").replace("pictures", "!file nothing-here"),
        MINIMAL.replace("type: folder, path: pictures", 'type: stream, url: "ftp://me:hunter2@x/"'),
        MINIMAL.replace("type: folder, path: pictures", 'type: folder, path: x, fps: "rtsp://me:hunter2@x/"'),
        MINIMAL.replace("type: folder, path: pictures", 'type: folder, path: x, fps: "rtsp://me:a/hunter2@x/"'),
        MINIMAL.replace("type: folder, path: pictures", 'type: folder, path: x, fps: "http://x/?pwd=hunter2"'),
        MINIMAL + "mqtt: {port: !env HUNTER, protocol: !env HUNTER}\ndevice: {id: !env HUNTER}\n",
    ],
)
def test_no_error_shows_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("HUNTER", "hunter2 hunter2")
    with pytest.raises(ConfigurationError) as caught:
        load(written(tmp_path, wrong))
    whole = "".join(traceback.format_exception(caught.value))
    for secret in ("hunter2", "5552368"):
        assert secret not in str(caught.value)
        assert secret not in whole.partition("ConfigurationError")[0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("!env NOT_SET_AT_ALL", "`!env NOT_SET_AT_ALL`: the environment variable is not set"),
        ("!env A=B", "is not the name of an environment variable"),
        ('!env ""', "`!env` needs a name after it"),
        ("!credential absent", "there is no such file; the unit needs LoadCredential=absent:PATH"),
        ("!credential ../secret", "is not the name of a credential"),
        ("!credential ..", "is not the name of a credential"),
        ("!file absent", "there is no such file"),
        ("!file .", "is a directory"),
        ("!file /dev/zero", "is not a regular file"),
        ("!file binary", "is not UTF-8 text"),
        ("!file nul", "holds bytes that are not text"),
        ("!file large", "at most 65,536 are read"),
        ("!file '~nobody-here/x'", "begins with ~"),
        ("!secret mqtt", "unknown tag; allowed are `!credential`, `!env`, `!file`"),
        ("!evn X", "unknown tag; did you mean `!env`?"),
    ],
)
def test_a_secret_that_cannot_be_read_is_one_problem_at_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "nul").write_bytes(b"a\0b")
    (tmp_path / "large").write_bytes(b"a" * 70_000)
    found = problems(tmp_path, _password(value))
    assert [(problem.line, problem.column, problem.key) for problem in found] == [(4, 34, "mqtt.password")]
    assert message in found[0].message


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system where nobody has handed over credentials; its places for them."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr(secrets, "STORE", tmp_path / "credstore")
    monkeypatch.setattr(secrets, "RUN", tmp_path / "run")
    (tmp_path / "credstore").mkdir()
    (tmp_path / "run/edge-classifierd.service").mkdir(parents=True)
    return tmp_path


def test_on_the_command_line_the_services_credential_is_found_where_the_unit_loads_it_from(outside: Path) -> None:
    (outside / "credstore/edge-classifierd.mqtt_password").write_text(_SECRET)
    (outside / "run/edge-classifierd.service/mqtt_password").write_text("the one before")
    assert _revealed(loaded(outside, _password("!credential mqtt_password")).configuration) == _SECRET


def test_one_that_only_systemd_can_decrypt_is_taken_from_the_running_service(outside: Path) -> None:
    (outside / "run/edge-classifierd.service/mqtt_password").write_text(_SECRET)
    assert _revealed(loaded(outside, _password("!credential mqtt_password")).configuration) == _SECRET


def test_in_a_service_only_its_own_credentials_count(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (outside / "credstore/edge-classifierd.mqtt_password").write_text(_SECRET)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(outside / "run"))
    (found,) = sentences(outside, _password("!credential mqtt_password"))
    assert "LoadCredential=mqtt_password:PATH" in found


def test_without_systemd_the_way_out_is_named(outside: Path) -> None:
    (found,) = sentences(outside, _password("!credential mqtt_password"))
    assert "$CREDENTIALS_DIRECTORY is not set" in found
    assert "LoadCredential=mqtt_password:PATH" in found
    assert "`!env` or `!file`" in found


def test_a_tagged_value_is_text_where_text_is_wanted_and_a_number_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "P": "1884",
        "U": "12345",
        "W": "true",
        "T": "0.5",
        "C": "5",
        "L": "5m",
        "F": "on",
        "N": "null",
    }.items():
        monkeypatch.setenv(name, value)
    text = """
mqtt: {port: !env P, username: !env U, password: !env W, keepalive: !env L, protocol: !env C}
pipelines:
  - name: !env W
    source: {type: folder, path: !env U, loop: !env W, recursive: !env F, fps: !env N}
    watches: [{name: w, labels: [!env U], threshold: !env T, cooldown: !env C}]
"""
    configuration = loaded(tmp_path, text).configuration
    mqtt, pipeline, watch = configuration.mqtt, configuration.pipelines[0], configuration.pipelines[0].watches[0]
    assert (mqtt.port, mqtt.username, mqtt.keepalive, mqtt.protocol, _revealed(configuration)) == (
        1884,
        "12345",
        300,
        5,
        "true",
    )
    assert pipeline.name == "true"
    assert (pipeline.source.loop, pipeline.source.recursive, pipeline.source.fps) == (True, True, None)  # type: ignore[union-attr]
    assert (watch.labels, watch.threshold, watch.cooldown) == (("12345",), 0.5, 5.0)


def test_a_wrong_tagged_value_is_named_by_its_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P", "high")
    (found,) = sentences(tmp_path, MINIMAL + "mqtt: {port: !env P}")
    assert found == "4:14: mqtt.port: must be a whole number between 1 and 65535, not the content of `!env P`"


def test_the_number_of_secrets_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    many = ", ".join(f"!file ./{'./' * n}secret" for n in range(300))
    found = problems(tmp_path, MINIMAL + f"    watches: [{{name: w, labels: [{many}]}}]")
    assert len(found) == 300 - 256
    assert "more than 256" in found[0].message
    same = ", ".join(["!file secret"] * 300)
    assert loaded(tmp_path, MINIMAL + f"    watches: [{{name: w, labels: [{same}]}}]").warnings == ()


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (_password("hunter2"), ["mqtt.password"]),
        (_password("!file secret"), []),
        (
            MINIMAL.replace("type: folder, path: pictures", 'type: stream, url: "rtsp://a:b@c/"'),
            ["pipelines[0].source.url"],
        ),
        (
            MINIMAL.replace("type: folder, path: pictures", 'type: stream, url: "rtsp://a:1%2Fd@c/"'),
            ["pipelines[0].source.url"],
        ),
        (MINIMAL.replace("type: folder, path: pictures", 'type: stream, url: "rtsp://c/"'), []),
        (MINIMAL, []),
    ],
)
def test_a_password_in_a_file_that_everybody_may_read_earns_a_warning(
    tmp_path: Path, text: str, keys: list[str]
) -> None:
    (tmp_path / "secret").write_text("x")
    path = written(tmp_path, text)
    assert load(path).warnings == ()
    path.chmod(0o644)
    warnings = load(path).warnings
    assert [warning.key for warning in warnings] == keys
    assert all("chmod o-r" in warning.message and warning.line > 0 for warning in warnings)
