"""Signing in and out, over the real server."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from web_scene import PASSWORD, Answer, PageScene

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import ConfigurationError
from edge_classifierd.web.access.password import Password, hash_password, make_password
from edge_classifierd.web.access.session import SHORT_S, STAY_S, Sessions

if TYPE_CHECKING:
    from pathlib import Path


class MovedClock(SystemClock):
    """A clock that a test moves forward."""

    moved_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.moved_s

    def utc(self) -> Any:
        from datetime import timedelta

        return super().utc() + timedelta(seconds=self.moved_s)


def origin(page: PageScene) -> str:
    return f"http://127.0.0.1:{page.port}"


def sign_in(page: PageScene, password: str = PASSWORD, **more: Any) -> Answer:
    return page.request("POST", "/api/session", {"password": password, **more}, basic=False, origin=origin(page))


def cookie_of(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


def test_the_password_signs_in_and_the_cookie_opens_the_api(page: PageScene) -> None:
    assert page.get("/api/session", basic=False).document == {
        "signed_in": False,
        "password_required": True,
        "device_name": "Porch",
    }
    answer = sign_in(page)
    assert answer.status == 204
    attributes = answer.headers["set-cookie"].split("; ")[1:]
    assert sorted(attributes) == ["HttpOnly", "SameSite=Strict"]  # no Path, no Max-Age, no Secure over HTTP
    cookie = cookie_of(answer)
    assert cookie.startswith("ec_porch=")
    assert page.get("/api/overview", basic=False, cookie=cookie).status == 200
    assert page.get("/api/session", basic=False, cookie=cookie).document["signed_in"] is True


def test_staying_signed_in_sets_an_age(page: PageScene) -> None:
    assert f"Max-Age={STAY_S}" in sign_in(page, stay=True).headers["set-cookie"]


def test_the_cookie_is_secure_when_the_page_came_over_https(page: PageScene) -> None:
    https = f"https://127.0.0.1:{page.port}"
    answer = page.request("POST", "/api/session", {"password": PASSWORD}, basic=False, origin=https)
    assert "Secure" in answer.headers["set-cookie"]


def test_signing_out_ends_one_session_and_signing_out_everywhere_all(page: PageScene) -> None:
    cookies = [cookie_of(sign_in(page)) for _ in range(3)]
    out = page.request("DELETE", "/api/session", basic=False, cookie=cookies[0], origin=origin(page))
    assert (out.status, "Max-Age=0" in out.headers["set-cookie"]) == (204, True)
    states = [page.get("/api/overview", basic=False, cookie=cookie).status for cookie in cookies]
    assert states == [401, 200, 200]
    out = page.request("DELETE", "/api/sessions", basic=False, cookie=cookies[1], origin=origin(page))
    assert out.status == 204
    assert [page.get("/api/overview", basic=False, cookie=cookie).status for cookie in cookies] == [401, 401, 401]


def test_too_many_wrong_passwords_from_an_address_have_to_wait(page: PageScene) -> None:
    assert page.get("/api/overview").status == 200
    before = page.page.access.logins["failed"]
    answers = [sign_in(page, f"wrong {number}") for number in range(8)]
    statuses = [answer.status for answer in answers]
    failed = page.page.access.logins["failed"] - before
    assert statuses == [401] * failed + [429] * (8 - failed)
    assert 1 <= failed <= 5
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
    assert sign_in(page).status == 429  # the right one too
    assert page.get("/api/overview").status == 200  # who is in stays in


@pytest.mark.parametrize("value", [None, 1, [], {}])
def test_a_password_that_is_no_text_is_refused(page: PageScene, value: Any) -> None:
    answer = page.request("POST", "/api/session", {"password": value}, origin=origin(page))
    assert (answer.status, answer.code) == (422, "value_refused")


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


def test_a_session_survives_a_restart_but_no_new_password(tmp_path: Path, clock: MovedClock) -> None:
    secret = tmp_path / "web-secret"
    cookie, _ = Sessions(secret, b"one", clock).make(stay=False)
    assert Sessions(secret, b"one", clock).read(cookie) is not None
    assert Sessions(secret, b"two", clock).read(cookie) is None
    assert secret.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("stay", "age_s"), [(False, SHORT_S), (True, STAY_S)])
def test_a_session_expires(tmp_path: Path, clock: MovedClock, *, stay: bool, age_s: int) -> None:
    sessions = Sessions(tmp_path / "web-secret", b"one", clock)
    cookie, age = sessions.make(stay=stay)
    assert age == age_s
    clock.moved_s = age_s - 10
    assert sessions.read(cookie) is not None
    clock.moved_s = age_s + 10
    assert sessions.read(cookie) is None


def test_a_changed_cookie_is_no_session(tmp_path: Path, clock: MovedClock) -> None:
    sessions = Sessions(tmp_path / "web-secret", b"one", clock)
    cookie, _ = sessions.make(stay=False)
    data = base64.urlsafe_b64decode(cookie + "==")
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert sessions.read(base64.urlsafe_b64encode(changed).decode()) is None
    for text in ("", "a", "é", "A" * 1000, cookie[:-1] + "\0"):
        assert sessions.read(text) is None


def test_a_secret_that_cannot_be_stored_costs_only_the_sessions_at_a_restart(
    tmp_path: Path, clock: MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = Sessions(tmp_path / "absent" / "web-secret", b"one", clock)
    cookie, _ = sessions.make(stay=False)
    assert sessions.read(cookie) is not None
    assert "sessions of the page end with a restart" in caplog.text


def test_a_stored_hash_is_of_its_password_only() -> None:
    stored = hash_password("täst password")
    assert stored.startswith("scrypt$16384$8$1$")
    assert Password(stored).matches("täst password")
    assert not Password(stored).matches("test password")
    assert hash_password("täst password") != stored


@pytest.mark.parametrize(
    "stored",
    ["scrypt$1", "scrypt$16384$8$1$$", "scrypt$3$8$1$AAAA$AAAA", "scrypt$99999999999$8$1$" + "A" * 22 + "$" + "A" * 43],
)
def test_a_damaged_hash_is_an_error_of_the_configuration(stored: str) -> None:
    with pytest.raises(ConfigurationError, match="scrypt hash"):
        Password(stored)


def test_a_made_password_has_twenty_letters_in_fives() -> None:
    made = make_password()
    assert [len(part) for part in made.split("-")] == [5, 5, 5, 5]
    assert made != make_password()
