from __future__ import annotations

import time as clock
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_classifierd.decision.active_times import ActiveRange, ActiveTimes, Coordinates, activity_at, sun_time

BERLIN, BERLIN_PLACE = ZoneInfo("Europe/Berlin"), Coordinates(52.5, 13.4)
TROMSO = Coordinates(69.65, 18.96)
PLACES = [
    (BERLIN, BERLIN_PLACE),
    (ZoneInfo("America/New_York"), Coordinates(40.7, -74.0)),
    (ZoneInfo("Australia/Lord_Howe"), Coordinates(-31.5, 159.1)),  # changes its clock by half an hour
    (ZoneInfo("Pacific/Kiritimati"), Coordinates(1.9, -157.4)),  # 14 hours ahead of UTC
    (ZoneInfo("Atlantic/Reykjavik"), Coordinates(64.1, -21.9)),  # the sun sets after midnight in June
    (ZoneInfo("Europe/Oslo"), TROMSO),  # polar day and night
    (ZoneInfo("Antarctica/Troll"), Coordinates(-72.0, 2.5)),  # changes its clock by two hours
]
DAYS = st.dates(date(2025, 1, 1), date(2027, 12, 31))
OFFSETS = st.sampled_from(["", "+1h", "-30m", "+2h15m", " - 45m"])
CLOCKS = st.times().map(lambda moment: f"{moment:%H:%M}")
TIMES = st.one_of(CLOCKS, st.builds(str.__add__, st.sampled_from(["sunrise", "sunset"]), OFFSETS))


def local(text: str, zone: ZoneInfo = BERLIN, *, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def active(text: str, moment: datetime, place: Coordinates | None = None) -> bool:
    zone = moment.tzinfo
    return activity_at(ActiveTimes((ActiveRange.parse(text),), place), moment, zone).active


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("06:00-22:30", "06:00 - 22:30"),
        (" 6:05 -  24:00", "06:05 - 24:00"),
        ("sunrise-30m - sunset", "sunrise-30m - sunset"),
        ("sunrise-30m-sunset+1h", "sunrise-30m - sunset+60m"),
        ("sunset - sunrise", "sunset - sunrise"),
        ("22:00 - sunrise + 1h30m", "22:00 - sunrise+90m"),
    ],
)
def test_range_is_read_and_shown(text: str, shown: str) -> None:
    assert str(ActiveRange.parse(text)) == shown
    assert ActiveRange.parse(shown) == ActiveRange.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be a range of times such as"),
        ("06:00", "must be a range"),
        ("6-22", "must be a range"),
        ("noon - sunset", "must be a range"),
        ("sunrise-30 - sunset", "must be a range"),
        ("25:00-26:00", "has no clock time 25:00"),
        ("06:60-07:00", "has no clock time 06:60"),
        ("24:01-07:00", "has no clock time 24:01"),
        ("24:00-07:00", "must not start at 24:00"),
        ("06:00-06:00", "is empty"),
        ("sunset - sunset", "is empty"),
        ("sunrise-7h - sunset", "must be at most 6h"),
        ("sunrise+ - sunset", "must be at most 6h"),
        ("06:00-22:30\n", "must be a range"),
    ],
)
def test_mistake_in_a_range_is_one_sentence(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        ActiveRange.parse(text)


def test_end_is_not_included() -> None:
    for moment, expected in (("05:59:59", False), ("06:00", True), ("22:29:59", True), ("22:30", False)):
        assert active("06:00-22:30", local(f"2026-11-28T{moment}")) is expected


def test_range_over_midnight() -> None:
    for moment, expected in (("21:59", False), ("22:00", True), ("00:00", True), ("05:59", True), ("06:00", False)):
        assert active("22:00-06:00", local(f"2026-11-28T{moment}")) is expected


def test_night_of_sun_times() -> None:
    assert active("sunset - sunrise", local("2026-11-28T23:00"), BERLIN_PLACE)
    assert active("sunset - sunrise", local("2026-11-28T06:00"), BERLIN_PLACE)
    assert not active("sunset - sunrise", local("2026-11-28T12:00"), BERLIN_PLACE)


def test_sun_times_are_those_of_the_almanac() -> None:
    """The solstices in Berlin, as calendars print them."""
    known = {
        ("sunrise", date(2026, 12, 21)): "2026-12-21T08:15",
        ("sunset", date(2026, 12, 21)): "2026-12-21T15:54",
        ("sunrise", date(2026, 6, 21)): "2026-06-21T04:43",
        ("sunset", date(2026, 6, 21)): "2026-06-21T21:33",
    }
    for (event, day), moment in known.items():
        assert abs(sun_time(event, day, BERLIN_PLACE, BERLIN) - local(moment)) < timedelta(minutes=3)


@pytest.mark.parametrize(
    ("text", "summer", "winter"),
    [
        ("sunset - 21:00", False, True),  # in June the sun sets later
        ("sunrise - 07:00", True, False),
        ("18:00 - sunset", True, False),
    ],
)
def test_range_is_empty_where_the_sun_makes_its_end_earlier_than_its_start(
    text: str, summer: bool, winter: bool
) -> None:
    for day, expected in (("2026-06-21", summer), ("2026-11-28", winter)):
        minutes = [local(f"{day}T00:00") + timedelta(minutes=10 * number) for number in range(144)]
        assert any(active(text, minute, BERLIN_PLACE) for minute in minutes) is expected


def test_time_that_the_clock_skips_is_as_much_later() -> None:
    """On 29 March 2026 it is 03:00 after 01:59:59."""
    assert not active("02:30-05:00", local("2026-03-29T03:29"))
    assert active("02:30-05:00", local("2026-03-29T03:30"))
    assert active("01:00-02:30", local("2026-03-29T03:29"))
    assert not active("01:00-02:30", local("2026-03-29T03:30"))


def test_of_a_time_that_comes_twice_the_first_one_counts() -> None:
    """On 25 October 2026 it is 02:00 again after 02:59:59."""
    assert active("01:00-02:30", local("2026-10-25T02:29"))
    assert not active("01:00-02:30", local("2026-10-25T02:10", fold=1))
    assert active("02:30-05:00", local("2026-10-25T02:10", fold=1))


def test_polar_day_has_no_night_and_polar_night_no_day() -> None:
    oslo = ZoneInfo("Europe/Oslo")
    for hour in range(24):
        june, december = (local(f"2026-{month}-15T{hour:02}:30", oslo) for month in ("06", "12"))
        assert active("sunrise - sunset", june, TROMSO)
        assert not active("sunset - sunrise", june, TROMSO)
        assert not active("sunrise - sunset", december, TROMSO)
        assert active("sunset - sunrise", december, TROMSO)


def test_sun_that_sets_after_midnight_belongs_to_the_day_before() -> None:
    reykjavik = ZoneInfo("Atlantic/Reykjavik")
    sunset = sun_time("sunset", date(2026, 6, 21), Coordinates(64.1, -21.9), reykjavik)
    assert local("2026-06-22T00:00", reykjavik) < sunset < local("2026-06-22T00:10", reykjavik)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(PLACES), TIMES, TIMES, DAYS, st.times())
def test_activity_is_constant_until_its_announced_change(
    place: tuple[ZoneInfo, Coordinates], start: str, end: str, day: date, moment: time
) -> None:
    zone, location = place
    try:
        times = ActiveTimes((ActiveRange.parse(f"{start} - {end}"),), location)
    except ValueError:
        return
    now = datetime.combine(day, moment, zone)
    found = activity_at(times, now, zone)
    assert found.since <= now < found.until
    for inside in (found.since, found.since + (found.until - found.since) / 3, found.until - timedelta(microseconds=1)):
        assert activity_at(times, inside, zone).active is found.active
    if found.until < now + timedelta(days=1):  # else it is the end of what is looked at
        after = activity_at(times, found.until, zone)
        assert after.since == found.until


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(PLACES), CLOCKS, CLOCKS, DAYS)
def test_clock_range_lasts_as_long_as_its_clock_times_but_for_changes_of_the_clock(
    place: tuple[ZoneInfo, Coordinates], start: str, end: str, day: date
) -> None:
    if start == end:
        return
    interval = ActiveRange.parse(f"{start}-{end}").interval(day, None, place[0])
    first, last = (timedelta(hours=int(text[:2]), minutes=int(text[3:])) for text in (start, end))
    nominal = (last - first) % timedelta(days=1)
    if interval is None:  # the clock has skipped all of it
        assert nominal <= timedelta(hours=2)
        return
    assert abs((interval[1] - interval[0]) - nominal) <= timedelta(hours=2)
    assert interval[0].astimezone(place[0]).date() - day in {timedelta(0), timedelta(days=1)}


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(PLACES), DAYS)
def test_sun_rises_before_it_sets_around_local_noon(place: tuple[ZoneInfo, Coordinates], day: date) -> None:
    zone, location = place
    rise, set_ = (sun_time(event, day, location, zone) for event in ("sunrise", "sunset"))
    noon = datetime.combine(day, time(12), zone).astimezone(UTC)
    assert noon - timedelta(hours=15) <= rise <= set_ <= noon + timedelta(hours=16)


def test_without_ranges_it_is_always_active() -> None:
    assert activity_at(ActiveTimes(), datetime(2026, 1, 1, tzinfo=UTC)).active


def test_zone_of_the_system_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    clock.tzset()
    try:
        times = ActiveTimes((ActiveRange.parse("09:00-10:00"),))
        assert activity_at(times, datetime(2026, 1, 1, 0, 30, tzinfo=UTC)).active
        assert not activity_at(times, datetime(2026, 1, 1, 9, 30, tzinfo=UTC)).active
    finally:
        monkeypatch.undo()
        clock.tzset()
