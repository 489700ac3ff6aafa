"""The text of a configuration is shown without its secrets, also when it is damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.config.loading.hidden_secrets import hide_secrets


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("mqtt:\n  password: hunter2  # old\n  port: 1883\n", "mqtt:\n  password: ***  # old\n  port: 1883\n"),
        (
            "mqtt: {username: edge, password: 'hunter, 2', port: 1}\n",
            "mqtt: {username: edge, password: ***, port: 1}\n",
        ),
        ('mqtt: {"password": "hun\\"ter2"}\n', 'mqtt: {"password": ***}\n'),
        ("mqtt:\n  password: |\n    hunter2\n    more\n  port: 1\n", "mqtt:\n  password: ***\n  port: 1\n"),
        ("mqtt: {password:\nhunter2}\n", "mqtt: {password:\n***}\n"),
        ("web:\n  metrics_token: hunter2\n", "web:\n  metrics_token: ***\n"),
        ("mqtt:\n  password: !credential mqtt_password\n", "mqtt:\n  password: !credential mqtt_password\n"),
        ("password: !file /etc/pw\n", "password: !file /etc/pw\n"),
        ("a: &x hunter2\npassword: *x\n", "a: ***\npassword: *x\n"),
        ("a: &x [one, hunter2]\npassword: *x\n", "a: &x [***, ***]\npassword: *x\n"),
        ("password: [hunter2, {a: hunter2}]\n", "password: [***, {***: ***}]\n"),
        ("# password: hunter2\nport: 1 # token: hunter2\n", "# password: ***\nport: 1 # token: ***\n"),
        ("url: rtsp://me:hunter2@porch/1\n", "url: rtsp://***@porch/1\n"),
        ("url: 'rtsp://me:hunter 2@porch/1'\n", "url: 'rtsp://***@porch/1'\n"),
        ('url: "http://porch/s?pwd=hunter2"\n', 'url: "http://porch/s?***"\n'),
        ("# url: rtsp://me:hunter2@porch/1\n", "# url: rtsp://***@porch/1\n"),
        ("# url: rtsp://me:hunter 2@porch/1\n", "# url: rtsp://***@porch/1\n"),
        ("# see http://porch/1 or ask me@home\n", "# see http://porch/1 or ask me@home\n"),
        ("password:\nname: x\n", "password:\nname: x\n"),
        ("labels: [a, b]\nname: passage\n", "labels: [a, b]\nname: passage\n"),
    ],
)
def test_secrets_are_replaced_and_the_rest_stays(written: str, shown: str) -> None:
    assert hide_secrets(written) == shown
    assert "hunter" not in hide_secrets(written)


@pytest.mark.parametrize(
    "written",
    [
        "a: [\nmqtt:\n  password: hunter2\n",
        "a: [\nmqtt: {password: hunter2, port: 1}\n",
        "a: [\nmqtt:\n  password: |\n    hunter2\n\n    hunter3\n  port: 1\n",
        "a: [\npassword: >-\n  hunter2\n",
        "a: [\n# password: hunter2\n",
        "a: [\nsource: {url: 'rtsp://me:hunter2@porch/1'}\n",
        "a: [\n- password: hunter2\n",
        'a: [\nmqtt: {"password":\n  hunter2}\n',
    ],
)
def test_text_that_is_no_yaml_shows_no_secret_either(written: str) -> None:
    shown = hide_secrets(written)
    assert "hunter" not in shown
    assert "a: [" in shown


@given(st.text(alphabet="ap:# \n-{}[]'\"&*!|>password", max_size=200))
def test_any_text_can_be_shown(text: str) -> None:
    assert isinstance(hide_secrets(text), str)


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=8, max_size=12), st.integers(0, 3))
def test_a_plain_password_is_never_shown(password: str, style: int) -> None:
    form = ["password: {}", "{{password: {}, port: 1}}", "password: '{}'", "password: |\n  {}"][style]
    secret = f"zq{password}"
    assert secret not in hide_secrets(f"mqtt:\n  port: 1\nx:\n  {form.format(secret)}\n")
