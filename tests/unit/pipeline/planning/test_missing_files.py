"""What the daemon would wait for, told by `check` as warnings."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.config.loading.load import load
from edge_classifierd.pipeline.planning.missing_files import missing_certificates

if TYPE_CHECKING:
    from pathlib import Path

PIPELINES = "pipelines: [{name: a, source: {type: v4l2}}]\n"


@pytest.fixture
def nonsense(tmp_path: Path) -> Path:
    (tmp_path / "no.pem").write_text("no certificate")
    return tmp_path


@pytest.mark.parametrize(
    ("tls", "warned"),
    [
        ("ca_file: /a, cert_file: /b, key_file: /c", {"ca_file": "/a", "cert_file": "/b", "key_file": "/c"}),
        ("cert_file: no.pem, key_file: /c", {"key_file": "/c"}),
        ("ca_file: no.pem, cert_file: /b", {"ca_file": "no.pem", "cert_file": "/b"}),
        ("ca_file: no.pem, cert_file: no.pem, key_file: no.pem", {"ca_file": "no.pem", "cert_file": "no.pem"}),
    ],
)
def test_every_certificate_that_cannot_be_used_is_named(nonsense: Path, tls: str, warned: dict[str, str]) -> None:
    file = nonsense / "c.yaml"
    file.write_text(f"mqtt: {{tls: {{{tls}}}}}\n{PIPELINES}")
    found = {one.key.removeprefix("mqtt.tls."): one.message for one in missing_certificates(load(file))}
    assert found.keys() == warned.keys()
    assert all(f"{warned[key]}: " in message for key, message in found.items())


def test_the_certificates_of_the_system_give_no_warning(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("mqtt: {tls: {}}\n" + PIPELINES)
    assert list(missing_certificates(load(file))) == []
    authorities = ssl.get_default_verify_paths().cafile
    if authorities:
        file.write_text(f"mqtt: {{tls: {{ca_file: {authorities}}}}}\n{PIPELINES}")
        assert list(missing_certificates(load(file))) == []
