"""`web password` stores the hash of a new password, shows it once, and restarts the service."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest
from typer.main import get_command

from edge_classifierd.cli import web
from edge_classifierd.cli.main import app
from edge_classifierd.config.loading import secrets
from edge_classifierd.web.access.password import Password

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 'web: {listen: "0.0.0.0:8480", password: !credential web_password}\n'
PIPELINES = "pipelines: [{name: driveway, source: {type: v4l2}}]\n"


class Machine:
    """A machine with a credential store and a systemctl that records its arguments."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = folder / "config.yaml"
        self.config.write_text(PIPELINES + PAGE)
        self.credential = folder / "credstore" / "edge-classifierd.web_password"
        self.calls = folder / "calls"
        self.systemctl = folder / "bin" / "systemctl"
        self.systemctl.parent.mkdir()
        self.answer("exit 0")
        monkeypatch.setattr(secrets, "STORE", folder / "credstore")
        monkeypatch.setattr(web, "SYSTEMD", folder)
        monkeypatch.setattr(web, "_own_address", lambda: "192.168.1.9")
        monkeypatch.setenv("PATH", str(self.systemctl.parent), prepend=":")
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    def answer(self, script: str) -> None:
        self.systemctl.write_text(f'#!/bin/sh\necho "$@" >>"{self.calls}"\n{script}\n')
        self.systemctl.chmod(0o755)

    def run(self, *options: str) -> int:
        arguments = ["web", "password", "--config", str(self.config), *options]
        return int(get_command(app).main(arguments, "edge-classifierd", standalone_mode=False) or 0)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_a_generated_password_is_shown_once_and_only_its_hash_is_stored(
    machine: Machine, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    assert machine.run() == 0
    output = capsys.readouterr()
    password = output.out.strip()
    assert re.fullmatch(r"([a-z2-7]{5}-){3}[a-z2-7]{5}", password)
    stored = machine.credential.read_text()
    assert password not in stored + output.err + caplog.text
    assert Password(stored.strip()).matches(password)
    assert machine.credential.stat().st_mode & 0o777 == 0o600
    assert machine.credential.parent.stat().st_mode & 0o777 == 0o700
    assert machine.calls.read_text() == "try-restart edge-classifierd.service\n"
    assert output.err == "the page: http://192.168.1.9:8480/\n"
    assert machine.run("--no-restart") == 0
    assert capsys.readouterr().out.strip() != password
    assert not Password(machine.credential.read_text().strip()).matches(password)
    assert machine.calls.read_text().count("try-restart") == 1


def test_a_typed_password_is_not_shown(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\nmore\n"))
    assert machine.run("--typed") == 0
    output = capsys.readouterr()
    assert output.out == ""
    assert "horse" not in output.err
    assert Password(machine.credential.read_text().strip()).matches("correct horse battery")


@pytest.mark.parametrize("given", ["short\n", "", "x" * 1001, "scrypt$1$2$3$4$5\n"])
def test_an_impossible_password_changes_nothing(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    assert machine.run("--typed") == 2
    assert "nothing was changed" in capsys.readouterr().err
    assert not machine.credential.exists()
    assert not machine.calls.exists()


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (PIPELINES, 'stored; the page is not configured yet, add to {}:\n  web: {{listen: "0.0.0.0:8480"'),
        (PIPELINES + 'web: {password: "in the file"}\n', "stored, but not used: in {} write"),
        ("pipelines: [", "stored, but whether it is used is not known: {}:2:"),
    ],
)
def test_a_password_that_is_not_used_is_reported(
    machine: Machine, capsys: pytest.CaptureFixture[str], config: str, sentence: str
) -> None:
    machine.config.write_text(config)
    assert machine.run() == 0
    assert sentence.format(machine.config) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "address"),
    [
        ('{listen: "127.0.0.1:81"}', "http://127.0.0.1:81/"),
        ('{listen: "[::]:81", password: "in the file"}', "http://192.168.1.9:81/"),
        ('{listen: "[::1]:81"}', "http://[::1]:81/"),
        ('{url: "https://porch.example.org/x"}', "https://porch.example.org/x/"),
    ],
)
def test_the_address_is_that_for_other_machines(
    machine: Machine, capsys: pytest.CaptureFixture[str], section: str, address: str
) -> None:
    machine.config.write_text(PIPELINES + f"web: {section}\n")
    assert machine.run() == 0
    assert f"the page: {address}\n" in capsys.readouterr().err


def test_a_service_that_does_not_restart_is_a_failure(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.answer("echo 'Job failed.' >&2; exit 1")
    assert machine.run() == 1
    assert "stored, but the service was not restarted: Job failed." in capsys.readouterr().err


def test_without_the_right_to_write_it_says_sudo(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("edge_classifierd.state_file.replace_file", refuse)
    assert machine.run() == 1
    output = capsys.readouterr()
    assert output.out == "", "a password that is not in use is not shown"
    assert "permission denied; run this as root (`sudo`)" in output.err
