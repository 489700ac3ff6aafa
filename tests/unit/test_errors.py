"""Messages are one printable line and never show the content of `!file` and `!env`."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.errors import (
    ConfigurationError,
    EdgeClassifierError,
    Problem,
    SourceError,
    hide,
    message_text,
    printable,
)

HOSTILE = st.text(
    st.sampled_from(
        "a\x00\x07\x08\x1b[31m\n\r\t\x7f\x85\x9b\u00ad\u061c\u200b\u200f\u2028\u202a\u202e\u2066\u2069\ufeff\U000e0001é猫"
    )
)


@given(st.text() | HOSTILE)
def test_printable_text_has_no_control_and_no_formatting_characters(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(one) in {"Cc", "Cf", "Zl", "Zp", "Co", "Cn"} for one in shown)
    assert printable(shown) == shown
    assert "\n" not in str(SourceError(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\n2026 ERROR b", "a\\n2026 ERROR b"),
        ("\u202egpj.cat", "\\u202egpj.cat"),
        ("Größe 猫 \u00a0…", "Größe 猫 \u00a0…"),
        ("not\udcffutf8", "not\udcffutf8"),  # a file name's byte, which the stream shows as it is
    ],
)
def test_letters_of_every_language_stay(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_the_content_of_a_tag_is_replaced_in_every_message() -> None:
    hide("secret-word", "`!file secret`")
    hide("/etc/other", "`!env OTHER`")
    assert str(EdgeClassifierError("/x/secret-word: no such file")) == "/x/`!file secret`: no such file"
    problem = Problem("c.yaml", 1, 2, "a", "'secret-word' and /etc/other")
    assert (
        str(ConfigurationError((problem, problem))).splitlines()
        == ["c.yaml:1:2: a: '`!file secret`' and `!env OTHER`"] * 2
    )
    assert message_text("secret-words are not hidden") == "secret-words are not hidden"


def test_a_short_content_is_not_replaced() -> None:
    hide("on", "`!env SWITCH`")
    assert message_text("switched on") == "switched on"
