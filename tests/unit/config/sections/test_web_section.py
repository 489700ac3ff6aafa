"""The section `web`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from config_files import written

from edge_classifierd.config.loading.load import load
from edge_classifierd.config.sections.web import WebSection, page_address
from edge_classifierd.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

PIPELINES = "pipelines: [{name: a, source: {type: v4l2}}]\n"


def section(folder: Path, text: str) -> WebSection | None:
    return load(written(folder, f"web: {text}\n{PIPELINES}")).configuration.web


def test_without_the_section_there_is_no_page(tmp_path: Path) -> None:
    assert load(written(tmp_path, PIPELINES)).configuration.web is None


@pytest.mark.parametrize("text", ["", "{}"])
def test_an_empty_section_listens_on_this_machine_only(tmp_path: Path, text: str) -> None:
    web = section(tmp_path, text)
    assert web is not None
    assert (web.listen, web.password, web.viewers) == ("127.0.0.1:8480", None, 4)


@pytest.mark.parametrize("listen", ["0.0.0.0:8480", "[::]:8480", "192.168.1.9:80", "[2001:db8::1]:8480"])
def test_an_address_beyond_this_machine_needs_a_password(tmp_path: Path, listen: str) -> None:
    with pytest.raises(ConfigurationError, match="can be reached from other machines") as raised:
        section(tmp_path, f'{{listen: "{listen}"}}')
    assert raised.value.problems[0].key == "web.password"
    assert section(tmp_path, f'{{listen: "{listen}", password: "correct horse"}}') is not None


@pytest.mark.parametrize("listen", ["127.0.0.1:8480", "127.0.0.9:1", "[::1]:65535"])
def test_this_machine_alone_needs_none(tmp_path: Path, listen: str) -> None:
    assert section(tmp_path, f'{{listen: "{listen}"}}') is not None


@pytest.mark.parametrize(
    "text",
    [
        'listen: "8480"', 'listen: ":8480"', 'listen: "localhost:8480"', 'listen: "::1:8480"', 'listen: "127.0.0.1:0"',
        'listen: "127.0.0.1:65536"', 'listen: "[127.0.0.1]:80"', "listen: 8480", "password: short", "metrics_token: x",
        "url: porch", "url: ftp://porch/", "url: http://a:b@porch/", "url: http://porch/?a", "hosts: [a:1]",
        "hosts: [http://a]", "viewers: 0", "viewers: 33", "tls: {certificate: a.pem}", "tls: null", "teach: maybe",
    ],
)  # fmt: skip
def test_a_wrong_value_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"web.{text.partition(':')[0]}"):
        section(tmp_path, f"{{{text}}}")


def test_the_password_is_never_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        section(tmp_path, "{password: geheim}")
    assert "geheim" not in str(raised.value)
    assert "correct horse" not in repr(section(tmp_path, "{password: correct horse}"))


@pytest.mark.parametrize(
    ("keys", "local", "address"),
    [
        ({}, "192.168.1.9", None),
        ({"listen": "[::1]:8480"}, "192.168.1.9", None),
        ({"listen": "0.0.0.0:8480"}, None, None),
        ({"listen": "0.0.0.0:8480"}, "127.0.0.1", None),
        ({"listen": "0.0.0.0:8480"}, "192.168.1.9", "http://192.168.1.9:8480/"),
        ({"listen": "[::]:8480"}, "2001:db8::1", "http://[2001:db8::1]:8480/"),
        ({"listen": "192.168.1.8:80"}, "192.168.1.9", "http://192.168.1.8:80/"),
        ({"listen": "0.0.0.0:8480", "tls": {"certificate": "/c", "key": "/k"}}, "10.0.0.1", "https://10.0.0.1:8480/"),
        ({"url": "https://porch.example.org/cam"}, None, "https://porch.example.org/cam/"),
    ],
)
def test_the_address_for_people(keys: dict[str, Any], local: str | None, address: str | None) -> None:
    made = WebSection.model_validate({"password": "correct horse", **keys})
    assert page_address(made, local) == address
