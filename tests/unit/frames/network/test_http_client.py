"""Logins over HTTP as RFC 7616 and RFC 2617 describe them."""

from __future__ import annotations

import hashlib
import re

import pytest

from edge_classifierd.frames.network.http_client import authorisation

TARGET = "/cgi-bin/video?channel=1"


def fields(header: str) -> dict[str, str]:
    return {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^",]+))', header)}


@pytest.mark.parametrize(("algorithm", "made"), [("MD5", hashlib.md5), ("SHA-256", hashlib.sha256)])
@pytest.mark.parametrize("qop", [True, False])
@pytest.mark.parametrize("session", [True, False])
def test_a_digest_is_answered_with_the_algorithm_that_is_asked_for(
    algorithm: str, made: object, qop: bool, session: bool
) -> None:
    def hashed(text: str) -> str:
        return made(text.encode()).hexdigest()  # type: ignore[operator]

    name = algorithm + ("-sess" if session else "")
    challenge = f'Digest realm="a cam, upstairs", nonce="abc", algorithm={name}, opaque="x"' + (
        ', qop="auth,auth-int"' if qop else ""
    )
    header = authorisation([challenge], "GET", TARGET, "me", "secret")
    assert header.startswith("Digest ")
    found = fields(header)
    assert (found["username"], found["uri"], found["opaque"]) == ("me", TARGET, "x")
    secret = hashed("me:a cam, upstairs:secret")
    middle = f"00000001:{found['cnonce']}:auth:" if qop else ""
    if session and not qop:
        return  # the client's nonce is not sent; no camera offers this
    if session:
        secret = hashed(f"{secret}:abc:{found['cnonce']}")
    assert found["response"] == hashed(f"{secret}:abc:{middle}{hashed(f'GET:{TARGET}')}")


def test_the_strongest_offer_is_taken() -> None:
    offers = [
        'Basic realm="x"',
        'Digest realm="x", nonce="1", algorithm=MD5',
        'Digest realm="x", nonce="2", algorithm=SHA-256',
    ]
    assert fields(authorisation(offers, "GET", "/", "me", "secret"))["algorithm"] == "SHA-256"
    assert fields(authorisation([", ".join(offers)], "GET", "/", "me", "secret"))["algorithm"] == "SHA-256"
    assert authorisation(offers[:1], "GET", "/", "me", "secret") == "Basic bWU6c2VjcmV0"


def test_an_unknown_algorithm_is_named() -> None:
    with pytest.raises(ValueError, match=r"offers only Digest SHA-512; set it to Digest \(MD5 or SHA-256\) or Basic"):
        authorisation(['Digest realm="x", nonce="1", algorithm=SHA-512'], "GET", "/", "me", "secret")


@pytest.mark.parametrize("realm", ["Login, Basic cam", "a, Digest b", 'say \\"hi\\", Basic x', "x=1, y=2"])
@pytest.mark.parametrize("scheme", ["Digest", "digest"])
def test_a_realm_may_hold_the_words_of_a_challenge(scheme: str, realm: str) -> None:
    challenge = f'{scheme} realm="{realm}", nonce="1", qop="auth"'
    for offers in ([challenge], [f'basic realm="x", {challenge}'], [f'{challenge}, BASIC realm="x"']):
        header = authorisation(offers, "GET", "/", "me", "secret")
        assert f'realm="{realm}", nonce="1"' in header
