from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from config_files import MINIMAL, loaded, problems, sentences, written

from edge_classifierd.config.loading.load import MAX_PROBLEMS, load
from edge_classifierd.config.loading.yaml_tree import MAX_DEPTH, compose
from edge_classifierd.errors import ConfigurationError, ExitCode, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root's right to read everything."""
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)


def _one(tmp_path: Path, text: str | bytes) -> Problem:
    found = problems(tmp_path, text)
    assert len(found) == 1, found
    return found[0]


def test_every_mistake_is_reported_at_once_at_its_place_in_the_files_order(tmp_path: Path) -> None:
    text = textwrap.dedent(
        """\
        mqtt:
          prot: 1883
          port: yes
          host: a
          host: b
        pipelines:
          - name: drive way
            source:
              type: folder
              path: x
              fps: high
            watches:
              - name: dog
                labels: ["*", !env NOT_SET_AT_ALL, !secret x]
                release: 0.9
          - source: {type: vl42}
        unknown: 5
        """
    )
    assert [sentence.split(" ", 1)[0] for sentence in sentences(tmp_path, text)] == [
        "2:3:",
        "3:9:",
        "5:3:",
        "7:11:",
        "11:12:",
        "14:23:",
        "14:44:",
        "15:18:",
        "16:5:",
        "16:20:",
        "17:1:",
    ]
    keys = [problem.key for problem in problems(tmp_path, text)]
    assert keys == [
        "mqtt.prot",
        "mqtt.port",
        "mqtt.host",
        "pipelines[0].name",
        "pipelines[0].source.fps",
        "pipelines[0].watches[0].labels[1]",
        "pipelines[0].watches[0].labels[2]",
        "pipelines[0].watches[0].release",
        "pipelines[1].name",
        "pipelines[1].source.type",
        "unknown",
    ]


def test_a_wrong_configuration_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "absent.yaml")
    assert caught.value.exit_code is ExitCode.USAGE
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}/absent.yaml:1:1: there is no such file; give its path with --config")
    assert "doctor --suggest" in said


def test_the_document_is_called_as_the_user_called_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, MINIMAL)
    monkeypatch.chdir(tmp_path)
    document = load(Path("config.yaml"))
    assert document.file == "config.yaml"
    assert document.configuration.pipelines[0].source.path == tmp_path / "pictures"  # type: ignore[union-attr]


def test_a_later_check_can_point_at_a_key_or_the_nearest_one_above(tmp_path: Path) -> None:
    text = MINIMAL + '    watches:\n      - name: dog\n        labels: [cat,\n          "*nothing*"]\n'
    document = loaded(tmp_path, text)
    places = {
        "pipelines[0].watches[0].labels[1]": (7, 11),
        "pipelines[0].watches[0].labels": (6, 9),
        "pipelines[0].watches[0].threshold": (5, 9),
        "pipelines[0].watches[0].name": (5, 15),
        "pipelines[0].model.path": (2, 5),
        "pipelines[0].source.path": (3, 34),
        "mqtt.host": (1, 1),
        "": (1, 1),
    }
    for key, place in places.items():
        problem = document.problem(key, "is wrong")
        assert ((problem.line, problem.column), problem.key, problem.message) == (place, key, "is wrong")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"# nothing but a comment\n\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"---\n", "must be a mapping of keys"),
        (b"- a\n", "must be a mapping of keys"),
        (b"hello", "must be a mapping of keys"),
        (MINIMAL.encode("utf-16"), "is written in UTF-16; save it as UTF-8"),
        (MINIMAL.encode("utf-16-le"), "has the character U+0000"),
        (("# Küche\n" + MINIMAL).encode("latin-1"), "is not UTF-8 (byte 0xfc here)"),
        (b"a: b\0c", "has the character U+0000"),
        (b'device: {name: "a\\0b"}', "has the control character U+0000"),
        (b'device: {name: "a\\x1b[31m"}', "has the control character U+001B"),
        (b"a:\n\t- b", "a tab cannot stand here; indent with spaces"),
        (b"a: b: c", "text with a colon needs quotes"),
        (b"a: @b", "text that begins with this character needs quotes"),
        (b"a: *b", "no anchor (&) above has this name"),
        (b"a: &a [*a]", "an alias cannot refer to a value that contains it"),
        (b"a: 1\n---\nb: 2\n", "a second document begins here"),
        (b"? [a]\n: b\n", "a key must be plain text"),
        (b"<<: 5\n", "`<<` takes a mapping or a list of mappings"),
        (
            b"device: !!python/object/apply:os.system [x]",
            "unknown tag `tag:yaml.org,2002:python/object/apply:os.system`",
        ),
        (b"device: !Credential x", "unknown tag; did you mean `!credential`?"),
        (b"device: !env [x]", "`!env` takes a name, not a list or a mapping"),
        (b"x" * 1_000_001, "is 1,000,001 bytes long; at most 1,000,000 are read"),
    ],
)
def test_what_is_no_configuration_is_refused_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    assert any(message in problem.message for problem in problems(tmp_path, content))


def test_the_place_of_a_wrong_byte_is_named(tmp_path: Path) -> None:
    problem = _one(tmp_path, b"device:\n  name: K\xfcche\n")
    assert (problem.line, problem.column) == (2, 10)
    problem = _one(tmp_path, "device:\n  name: Kü\x07\n".encode())
    assert (problem.line, problem.column) == (2, 11)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode()
    assert loaded(tmp_path, content).configuration == loaded(tmp_path, MINIMAL).configuration


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    fifo, loop, hollow = tmp_path / "fifo", tmp_path / "loop", tmp_path / "hollow"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    with hollow.open("wb") as stream:
        stream.truncate(100_000_000)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        refused = {
            tmp_path: "is a directory",
            fifo: "is not a regular file",
            tmp_path / "socket": "is not a regular file",
            Path("/dev/zero"): "is not a regular file",
            loop: "cannot be read: Too many levels of symbolic links",
            hollow: "is 100,000,000 bytes long",
            tmp_path / ("x" * 300): "cannot be read: File name too long",
            fifo / "below": "cannot be read: Not a directory",
        }
        start = time.monotonic()
        for path, message in refused.items():
            with pytest.raises(ConfigurationError, match=message):
                load(path)
        assert time.monotonic() - start < 5


def test_a_file_of_another_account_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL)
    path.chmod(0)
    with as_nobody(), pytest.raises(ConfigurationError, match="permission denied; use sudo, or let the account"):
        load(path)


def test_values_of_yaml_1_1_hold_no_surprise(tmp_path: Path) -> None:
    text = MINIMAL + "mqtt: {username: no, base_topic: on, client_id: 1:30, host: 0755}\ndevice: {name: 2026-11-21}\n"
    configuration = loaded(tmp_path, text).configuration
    mqtt = configuration.mqtt
    assert (mqtt.username, mqtt.base_topic, mqtt.client_id, mqtt.host) == ("no", "on", "1:30", ("0755",))
    assert configuration.device.name == "2026-11-21"
    for number in ("0755", "0x10", "1_000", "1:30"):
        assert f"not '{number}'" in sentences(tmp_path, MINIMAL + f"mqtt: {{port: {number}}}")[0]


def test_anchors_and_merge_keys_work_and_own_keys_win(tmp_path: Path) -> None:
    text = """
pipelines:
  - name: a
    source: &all {type: folder, path: x, fps: 1, loop: true}
  - name: b
    source: {fps: 2, <<: *all}
  - name: c
    source: {<<: [{fps: 3, type: folder, path: y}, *all]}
  - name: d
    source: *all
"""
    sources = [pipeline.source for pipeline in loaded(tmp_path, text).configuration.pipelines]
    read = [(source.path.name, source.fps, source.loop) for source in sources]  # type: ignore[union-attr]
    assert read == [("x", 1, True), ("x", 2, True), ("y", 3, True), ("x", 1, True)]


@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, f"nested more than {MAX_DEPTH} levels deep"),
        ("- " * 100_000, f"nested more than {MAX_DEPTH} levels deep"),
        ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 100)), "levels deep"),
        (
            "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 25)),
            "more than 20,000 values",
        ),
        ("a:\n" + "- x\n" * 30_000, "more than 20,000 values"),
        ('a: "\\UFFFFFFFF"', "is not YAML"),
        ('a: "\\ud800"', "U+D800"),
        ("%TAG ! tag:x\na: !b c\n", ""),
        ("a: !hunter!2 c\n", "unknown tag; text that begins with ! needs quotes"),
    ],
)
def test_hostile_text_costs_little_with_either_parser(loader: type, text: str, message: str) -> None:
    start = time.monotonic()
    said = ""
    try:
        compose(text, "file", loader)
    except ConfigurationError as error:
        said = str(error)
    assert message in said or "is not YAML" in said
    assert time.monotonic() - start < 10


def test_nesting_up_to_the_limit_is_read() -> None:
    assert compose("[" * MAX_DEPTH + "]" * MAX_DEPTH, "file") is not None
    with pytest.raises(ConfigurationError):
        compose("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "file")


def test_of_very_many_mistakes_the_first_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    found = problems(tmp_path, MINIMAL + "".join(f"unknown{n}: 5\n" for n in range(5000)))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[0].key == "unknown0"
    assert found[-1].message == "and 4,900 more problems"


def test_long_and_unprintable_values_are_shown_short_and_on_one_line(tmp_path: Path) -> None:
    text = MINIMAL + f'"a\\nb": 5\nmqtt: {{port: "{"x" * 5000}", protocol: "a\\nb"}}\n'
    found = sentences(tmp_path, text)
    assert len(found) == 3
    assert all(len(sentence) < 250 and sentence.isprintable() for sentence in found)


def test_loading_needs_no_numpy_and_no_runtime() -> None:
    heavy = ("numpy", "av", "ai_edge_litert", "paho")
    code = f"import sys, edge_classifierd.config.loading.load; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
