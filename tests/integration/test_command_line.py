"""The command line as a shell meets it: streams closed, full or cut off, Ctrl-C, closed folders, wrong words."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import tflite_builder as tflite
from daemon_process import PHOTOS, a_pipeline, photographs, write_config

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = f"{sys.executable} -m edge_classifierd"


def shell(line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`edge` in the line is the command."""
    return subprocess.run(
        ["bash", "-c", f'edge() {{ {COMMAND} "$@"; }}; {line}'],
        check=False, capture_output=True, cwd=cwd, timeout=60, stdin=subprocess.DEVNULL,
        env={**os.environ, "EDGE_CLASSIFIERD_STATE": str(cwd / "state"), **environment},
    )  # fmt: skip


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph of a cat; its folder is where commands run."""
    shutil.copy(PHOTOS / "cat.jpg", tmp_path / "cat.jpg")
    return tmp_path / "cat.jpg"


LINES = ["edge classify cat.jpg", "edge classify --json cat.jpg", "edge --version", "edge --help"]


@pytest.mark.parametrize("line", LINES)
def test_a_full_disk_behind_stdout_is_one_sentence_and_a_failure(line: str, photo: Path) -> None:
    done = shell(f"{line} >/dev/full", photo.parent)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "standard output: No space left on device; the result could not be written, run it again"
    ]


def test_closed_streams_are_not_taken_over_by_the_next_file(photo: Path) -> None:
    assert shell("edge classify cat.jpg >&-", photo.parent).stderr == b""
    # Without a stand-in the report would be opened as number 2, and hold what the runtime says to stderr.
    (photo.parent / "t.csv").write_text("file,label\ncat.jpg,Egyptian cat\n")
    assert shell("edge eval t.csv --report r.html <&- >&- 2>&-", photo.parent).returncode == 0
    assert (photo.parent / "r.html").read_text().startswith("<!doctype html>")


def test_a_reader_that_leaves_is_no_traceback(photo: Path) -> None:
    done = shell("edge classify --top 1000 cat.jpg cat.jpg cat.jpg | head -1", photo.parent)
    assert done.stdout.startswith(b"cat.jpg")
    assert done.stderr == b""


def test_what_cannot_be_said_on_stderr_leaves_the_exit_code_right(tmp_path: Path) -> None:
    assert shell("edge models info absent.tflite 2>/dev/full", tmp_path).returncode == 1
    assert shell("edge run --config absent.yaml 2>&-", tmp_path).returncode == 2


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2> >(exec true)"], ids=["full", "closed pipe"])
def test_a_stderr_that_cannot_be_written_costs_no_picture_and_no_exit_code(stderr: str, photo: Path) -> None:
    done = shell(f"edge classify --json absent.jpg cat.jpg {stderr}", photo.parent)
    assert done.returncode == 1
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == ["cat.jpg"]
    (photo.parent / "faulty.yaml").write_text("pipelines: 3\n")
    for refused in ("check -c faulty.yaml", "check --nope", "nope"):
        done = shell(f"edge {refused} {stderr}", photo.parent)
        assert (done.returncode, done.stdout) == (2, b""), refused


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii:strict"}],
    ids=["locale C", "ascii"],
)
def test_a_terminal_without_unicode_gets_plain_text(environment: dict[str, str], photo: Path) -> None:
    for line in ("edge bench --help", "edge classify cat.jpg"):
        done = shell(line, photo.parent, **environment)
        assert (done.returncode, done.stderr) == (0, b""), line
        assert done.stdout.isascii()


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "latin-1:strict"])
def test_json_is_json_whatever_a_file_is_called(encoding: str, photo: Path) -> None:
    names = [b"bad\xff.jpg", "grün….jpg".encode()]
    for name in names:
        shutil.copy(os.fsencode(photo), os.fsencode(photo.parent) + b"/" + name)
    done = shell("edge classify --json bad* gr*", photo.parent, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line.decode(encoding.split(":", maxsplit=1)[0])) for line in done.stdout.splitlines()]
    assert [one["file"] for one in told] == [os.fsdecode(name) for name in names]
    assert shell("edge classify bad* gr*", photo.parent, PYTHONIOENCODING=encoding).returncode == 0


def test_names_that_are_no_utf_8_are_refused_as_classes_and_shown_in_reports(photo: Path) -> None:
    folder = os.fsencode(photo.parent)
    for name in (b"good/Egyptian cat", b"bad/K\xe4tzchen", b"bad/Egyptian cat"):
        os.makedirs(folder + b"/" + name)  # noqa: PTH103 - no Path of bytes
        shutil.copy(os.fsencode(photo), folder + b"/" + name + b"/1\xe4.jpg")
    shutil.copy(b"/dev/null", folder + b"/good/Egyptian cat/2\xe5.jpg")
    done = shell("edge eval good --report r.html", photo.parent)
    assert done.returncode == 0, done.stderr
    assert b"2\xe5.jpg: the file is empty" in done.stderr
    assert r"2\udce5.jpg" in (photo.parent / "r.html").read_text()
    for line in ("edge eval bad", "edge train bad -o m.tflite"):
        (said,) = shell(line, photo.parent).stderr.decode().splitlines()
        assert said.endswith(r"the folder 'K\udce4tzchen' would be a class, but its name is not UTF-8; rename it")
    done = shell("edge train good -o $'m\\xe4.tflite'", photo.parent)
    assert done.stderr.endswith(b": its name is not UTF-8; choose another name\n")


def test_ctrl_c_at_any_moment_is_no_traceback(photo: Path) -> None:
    """From the package's first line on; the interpreter's own start is not ours."""
    script = "import signal, sys\n"
    script += "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it\n"
    script += "sys.stdout.write('.'); sys.stdout.flush()\n"
    script += "sys.argv = ['edge', 'classify', 'cat.jpg']\nfrom edge_classifierd.__main__ import main\nmain()"
    codes = set()
    for at in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", script], cwd=photo.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.read(1)
        time.sleep(0.03 + at * 0.09)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        codes.add(process.returncode)
        assert said == b"", at
    assert codes <= {-signal.SIGINT, 130, 0}
    assert codes & {-signal.SIGINT, 130}


def test_a_closed_folder_is_said_and_the_other_pictures_are_classified(photo: Path) -> None:
    closed = photo.parent / "closed"
    closed.mkdir()
    shutil.copy(photo, closed)
    (closed / "m.tflite").write_bytes(b"x")
    for path in (closed, photo.parent / "locked.jpg"):
        path.touch()
        os.chown(path, 65534, 65534) if os.geteuid() == 0 else None
        path.chmod(0o700 if path.is_dir() and os.geteuid() == 0 else 0)
    # Root without its privilege over files is as locked out as anybody.
    drop = "-dac_override,-dac_read_search"
    edge = f"setpriv --inh-caps={drop} --bounding-set={drop} " if os.geteuid() == 0 else ""
    lines = {
        "classify --top 1 locked.jpg closed/cat.jpg cat.jpg closed": 1,
        "classify cat.jpg --model closed/m.tflite": 1,
        "models list --config closed/c.yaml --folder closed": 0,
        "models info closed/m.tflite": 1,
        "check --config closed/c.yaml": 2,
        "eval closed": 2,
        "eval closed/t.csv": 2,
        "train closed -o m.tflite": 2,
        "replay closed --config closed/c.yaml": 2,
    }
    for line, code in lines.items():
        done = shell(f"{edge}{COMMAND} {line}", photo.parent)
        assert (done.returncode, b"Traceback" in done.stderr) == (code, False), (line, done.stderr)
        assert code == 0 or b"ermission denied" in done.stderr or b"no such" in done.stderr, (line, done.stderr)
    done = shell(f"{edge}{COMMAND} classify --top 1 locked.jpg closed/cat.jpg cat.jpg", photo.parent)
    closed.chmod(0o700)  # or pytest cannot remove it
    assert b"cat.jpg  (" in done.stdout
    assert b"2 of 3 pictures" in done.stderr


def test_a_folder_without_pictures_is_said_and_the_other_pictures_are_classified(photo: Path) -> None:
    (photo.parent / "empty").mkdir()
    done = shell("edge classify --json empty cat.jpg empty", photo.parent)
    assert done.returncode == 1
    assert json.loads(done.stdout)["file"] == "cat.jpg"
    nothing = "empty: contains no pictures; give a folder of JPEG, PNG, WebP, BMP, GIF or TIFF files"
    assert done.stderr.decode().splitlines() == [nothing, nothing, "2 of 3 pictures and folders could not be read"]


def test_a_model_for_the_edge_tpu_says_what_to_give_on_the_command_line(photo: Path, shared: Path) -> None:
    shutil.copy(shared / "data/coral/mobilenet_v1_0.25_128_quant_edgetpu.tflite", photo.parent / "edgetpu.tflite")
    done = shell("edge classify cat.jpg --model edgetpu.tflite", photo.parent, EDGE_CLASSIFIERD_ROOT=str(photo.parent))
    assert done.returncode == 3
    (said,) = done.stderr.decode().splitlines()
    assert said.startswith("edgetpu.tflite: is compiled for the Edge TPU and none is plugged in; plug one in, or give")
    assert "(the file without `_edgetpu` in its name)" in said


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("classify ''", "IMAGE: must not be empty"),
        ("classify . ''", "IMAGE: must not be empty"),
        ("listen --host ''", "--host: must not be empty"),
        (r"listen --host $'\xff'", "--host ?: cannot be a broker's name or address"),
        (f"listen --host {'a' * 1001}", "--host aaaa"),
        ("listen --host localhost --device 'a/b #'", "--device a/b #: give an id"),
        ("discovery purge --config c.yaml --device 'a b'", "--device a b: give an id"),
        ("discovery purge --config c.yaml --device +", "--device +: give one device's id"),
        ("classify --bundled fast --model m.tflite pictures", "--bundled fast: leave out --model m.tflite"),
        ("train pictures -o m.tflite --bundled fast --extractor e", "--bundled fast: leave out --extractor e"),
        ("models info --bundled accurate m.tflite", "--bundled accurate: leave out FILE m.tflite"),
        ("eval pictures --bundled best", "--bundled best: give fast or accurate"),
        ("models info", "FILE: missing; give a .tflite file, or --bundled fast"),
        ("eval pictures --config c.yaml --bundled fast", "--config names model, labels"),
        ("eval pictures --pipeline x", "--pipeline x: belongs to a configuration"),
        ("eval pictures --upright", "--upright: belongs to a configuration"),
        ("eval pictures --report pictures", "--report pictures: is a folder"),
        ("train pictures -o .", "--output .: is a folder"),
        ("train pictures -o absent/m.tflite", "--output absent/m.tflite: there is no folder absent"),
        ("train pictures -o pipe", "--output pipe: is not a regular file"),
        ("train pictures -o m.tflite --held-out absent/h.csv", "--held-out absent/h.csv: there is no folder"),
        ("replay --config c.yaml --other c.yaml", "--other c.yaml: is the same configuration"),
        ("doctor --suggest --json", "--suggest prints YAML"),
        ("run --config absent.yaml", "absent.yaml:1:1: there is no such file; give its path with --config"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(line: str, sentence: str, tmp_path: Path) -> None:
    photographs(tmp_path / "pictures/cat", "cat", "coffee")
    write_config(tmp_path / "c.yaml", 1, a_pipeline(tmp_path / "pictures/cat"))
    os.mkfifo(tmp_path / "pipe")
    done = shell(f"edge {line}", tmp_path)
    assert done.returncode == 2
    (said,) = done.stderr.decode().splitlines()
    assert said.startswith(sentence)


def test_listening_in_vain_is_a_failure(tmp_path: Path) -> None:
    done = shell("edge listen --host 127.0.0.1 --port 1 --for 1", tmp_path)
    assert done.returncode == 1
    assert b"connection refused" in done.stderr


def test_a_report_that_cannot_be_written_costs_no_other_result(photo: Path) -> None:
    (photo.parent / "t.csv").write_text("file,label\ncat.jpg,Egyptian cat\n")
    done = shell("edge eval t.csv --json --report /dev/full", photo.parent)
    assert done.returncode == 1
    assert json.loads(done.stdout)["images"] == 1
    assert b"/dev/full: cannot be written: No space left on device" in done.stderr


def test_warnings_are_shown_beside_mistakes(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "mqtt: {password: told}\n"
        "pipelines:\n"
        "  - {name: a, source: {type: stream, url: no.mp4}}\n"
        "  - {name: b, sauce: {}, source: {type: v4l2}}\n"
    )
    (tmp_path / "c.yaml").chmod(0o644)
    done = shell("edge check --config c.yaml", tmp_path)
    said = done.stderr.decode()
    assert done.returncode == 2
    assert "pipelines[1].sauce" in said
    assert "warning: c.yaml:1:18: mqtt.password: every account" in said
    assert "no.mp4: no such file" in said


def test_check_tells_what_the_daemon_would_wait_for_from_mistakes(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "mqtt: {host: x, tls: {ca_file: no.crt}}\n"
        "pipelines:\n"
        "  - {name: a, source: {type: stream, url: no.mp4}}\n"
        "  - {name: b, source: {type: stream, url: .}}\n"
        "  - {name: c, source: {type: stream, url: 'rtsp://nobody.invalid/x'}}\n"
    )
    done = shell("edge check --config c.yaml", tmp_path)
    missing = os.strerror(2)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        f"c.yaml:3:43: pipelines[0].source.url: {tmp_path}/no.mp4: no such file; check the path",
        f"c.yaml:4:43: pipelines[1].source.url: {tmp_path}: a folder, not a video; for pictures use `type: folder`",
        f"warning: c.yaml:1:32: mqtt.tls.ca_file: {tmp_path}/no.crt: {missing}; without it there is no connection",
        "c.yaml: 2 problems; the file is valid, the other pipelines would run",
    ]


def test_check_builds_each_model_and_tells_what_cannot_start_now(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("red\ngreen\nblue\n")
    (tmp_path / "mistyped.tflite").write_bytes(tflite.pack(tflite.mistyped()))
    (tmp_path / "damaged.tflite").write_bytes(b"not a model")
    (tmp_path / "empty").mkdir()
    (tmp_path / "c.yaml").write_text(
        "pipelines:\n"
        "  - {name: fine, source: {type: v4l2}}\n"
        "  - {name: missing, source: {type: folder, path: nowhere}}\n"
        "  - {name: empty, source: {type: folder, path: empty}}\n"
        "  - {name: damaged, source: {type: v4l2, device: /dev/b}, model: {path: damaged.tflite, labels: l.txt}}\n"
        "  - {name: mistyped, source: {type: v4l2, device: /dev/c}, model: {path: mistyped.tflite, labels: l.txt}}\n"
    )
    done = shell("edge check --json --config c.yaml", tmp_path)
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert [(problem["key"], problem["temporary"]) for problem in document["problems"]] == [
        ("pipelines[1].source.path", True),
        ("pipelines[2].source.path", True),
        ("pipelines[3].model.path", True),
        ("pipelines[4].model.path", True),
    ]
    assert "convert the model again" in document["problems"][3]["message"]
    with (tmp_path / "c.yaml").open("a") as file:
        file.write("  - {name: wrong, source: {type: v4l2, device: /dev/d}, allow: [nothing like it]}\n")
    done = shell("edge check --config c.yaml", tmp_path)
    assert done.returncode == 2, "a mistake in the file"
    assert b"c.yaml: 5 problems\n" in done.stderr
    done = shell("edge models verify mistyped.tflite", tmp_path)
    assert (done.returncode, b"convert the model again" in done.stdout) == (1, True)


def test_a_narrow_terminal_cuts_no_name_and_colours_can_be_refused(tmp_path: Path) -> None:
    for width in (20, 200):
        table = shell(f"script -qec 'stty cols {width}; {COMMAND} models list' /dev/null", tmp_path).stdout.decode()
        assert "mobilenet_v1_0.75_192_quant_edgetpu" in table
        assert "…" not in table
    photographs(tmp_path / "pictures", "cat")
    write_config(tmp_path / "c.yaml", 1, a_pipeline(tmp_path / "pictures"))
    doctor = f"script -qec '{COMMAND} doctor --config c.yaml' /dev/null"
    assert b"\x1b[3" in shell(doctor, tmp_path).stdout
    assert b"\x1b[3" not in shell(doctor, tmp_path, NO_COLOR="1").stdout


def test_the_accurate_bundled_model_classifies_a_photograph(photo: Path) -> None:
    done = shell("edge classify --json --bundled accurate cat.jpg; edge classify --json cat.jpg", photo.parent)
    accurate, fast = (json.loads(line)["top"][0] for line in done.stdout.splitlines())
    assert (accurate["label"], fast["label"]) == ("Egyptian cat", "Egyptian cat")
    assert accurate["confidence"] > fast["confidence"] + 0.1


def test_the_bundled_models_are_compared_side_by_side(photo: Path) -> None:
    (photo.parent / "pictures/Egyptian cat").mkdir(parents=True)
    shutil.copy(photo, photo.parent / "pictures/Egyptian cat")
    done = shell("edge eval pictures --bundled fast --bundled accurate --json", photo.parent)
    measured = json.loads(done.stdout)["models"]
    assert [one["model"] for one in measured] == ["efficientnet_lite0_int8", "efficientnet_lite2_int8"]


def test_new_classes_are_taught_on_the_accurate_bundled_model(tmp_path: Path) -> None:
    photographs(tmp_path / "pictures/person", "officer", "photographer")
    photographs(tmp_path / "pictures/thing", "coffee", "rocket")
    trained = shell("edge train pictures -o m.tflite --bundled accurate --holdout 0 --augment 0", tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert b"on the accurate bundled model, " in trained.stderr
    document = json.loads(shell("edge models info m.tflite --json", tmp_path).stdout)
    assert document["input"]["shape"] == [1, 260, 260, 3]
    assert {"person", "thing"} <= set(document["labels"])


def test_messages_name_the_bundled_model_and_no_path_of_the_installation(photo: Path) -> None:
    (photo.parent / "c.yaml").write_text("pipelines: [{name: yard, source: {type: folder, path: .}}]\n")
    checked = shell("edge check -c c.yaml", photo.parent).stdout
    assert b"yard: the bundled model; watches any (the best label)\n" in checked
    (photo.parent / "few.txt").write_text("cat\ndog\n")
    for line in ("edge classify --labels few.txt cat.jpg", "edge eval pictures --watch cat=nocat"):
        (photo.parent / "pictures/Egyptian cat").mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, photo.parent / "pictures/Egyptian cat")
        said = shell(line, photo.parent).stderr
        assert b"the bundled model" in said, said
        assert b"efficientnet" not in said
