"""When a pipeline is active: ranges of local clock times and sun times on the days of a year."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES: Final = '"06:00-22:30" or "sunrise-30m - sunset"'
_CLOCK: Final = r"([0-9]{1,2}):([0-9]{2})"
_SUN: Final = r"(sunrise|sunset)(?: ?([+-]) ?(?:([0-9]{1,2})h)?(?:([0-9]{1,3})m)?)?"
_TIME: Final = rf"(?:{_CLOCK}|{_SUN})"
PATTERN: Final = rf"^ *{_TIME} *- *{_TIME} *$"
"""A range in the configuration."""
_RANGE: Final = re.compile(PATTERN)
_DAY_MINUTES: Final = 24 * 60
_NOON_MINUTES: Final = 12 * 60
_MOST_OFFSET: Final = timedelta(hours=6)
_DAY: Final = timedelta(days=1)
_HORIZON_DEG: Final = -0.833
"""Elevation of the sun's centre at sunrise and sunset: its radius and the refraction of the air."""


@dataclass(frozen=True, slots=True)
class Coordinates:
    """A place on the earth, in degrees; north and east are positive."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """A clock time or a sun time."""

    event: Literal["clock", "sunrise", "sunset"]
    minutes: int
    """Minutes after midnight for a clock time, else minutes after the event (negative: before it)."""

    @property
    def in_the_morning(self) -> bool:
        """Whether this is a clock time before noon, or relative to sunrise."""
        return self.event == "sunrise" or (self.event == "clock" and self.minutes < _NOON_MINUTES)

    def __str__(self) -> str:
        """Return the spelling of the configuration."""
        if self.event == "clock":
            return f"{self.minutes // 60:02}:{self.minutes % 60:02}"
        return f"{self.event}{self.minutes:+}m" if self.minutes else self.event


@dataclass(frozen=True, slots=True)
class ActiveRange:
    """From one time of day to another, the end not included."""

    start: TimeOfDay
    end: TimeOfDay

    @classmethod
    def parse(cls, text: str) -> ActiveRange:
        """Return the range that a text describes. Raises ValueError with the reason."""
        match = _RANGE.fullmatch(text)
        if match is None:
            raise ValueError(f"must be a range of times such as {EXAMPLES}")
        groups = match.groups()
        half = len(groups) // 2
        start, end = (_time_of_day(part) for part in (groups[:half], groups[half:]))
        if start.event == "clock" and start.minutes == _DAY_MINUTES:
            raise ValueError("must not start at 24:00; write 00:00")
        if start == end:
            raise ValueError("is empty, because start and end are the same; write 00:00-24:00 for the whole day")
        return cls(start, end)

    @property
    def needs_location(self) -> bool:
        """Whether a time depends on the sun."""
        return self.start.event != "clock" or self.end.event != "clock"

    def __str__(self) -> str:
        """Return the spelling of the configuration."""
        return f"{self.start} - {self.end}"

    def interval(self, day: date, place: Coordinates | None, zone: tzinfo | None) -> tuple[datetime, datetime] | None:
        """Return start and end in UTC of the range that starts on a local day; None when it is empty on that day.

        Two clock times, or two times of the same sun event, end on the next day if the end is not after the start. A
        range from an evening time to a morning time ends on the next day, another one on the same day, where it is
        empty when the sun makes its end earlier than its start.
        """
        start = _moment(self.start, day, place, zone)
        if self.start.event == self.end.event:
            overnight = self.end.minutes <= self.start.minutes
        else:
            overnight = self.end.in_the_morning and not self.start.in_the_morning
        end = _moment(self.end, day + _DAY if overnight else day, place, zone)
        return (start, end) if start < end else None


@dataclass(frozen=True, slots=True)
class ActiveTimes:
    """The ranges of a pipeline and the place for their sun times."""

    ranges: tuple[ActiveRange, ...] = ()
    """Empty: always active."""
    place: Coordinates | None = None

    @property
    def needs_location(self) -> bool:
        """Whether a range depends on the sun."""
        return any(one.needs_location for one in self.ranges)


@dataclass(frozen=True, slots=True)
class Activity:
    """Whether a pipeline is active, and the times in UTC between which that is so."""

    active: bool
    since: datetime
    until: datetime


def activity_at(times: ActiveTimes, now: datetime, zone: tzinfo | None = None) -> Activity:
    """Return whether any range contains `now`, and the time around it that is known to be the same.

    Args:
        times: The ranges. Sun times require a place; ValueError is raised without.
        now: Aware.
        zone: The local time zone; None: that of the system.
    """
    now = now.astimezone(UTC)
    today = now.astimezone(zone).date()
    since, until = now - _DAY, now + _DAY
    if not times.ranges:
        return Activity(active=True, since=since, until=until)
    days = [today + number * _DAY for number in range(-2, 3)]
    found = (one.interval(day, times.place, zone) for one in times.ranges for day in days)
    intervals = [interval for interval in found if interval is not None]
    active = any(start <= now < end for start, end in intervals)
    for moment in (moment for interval in intervals for moment in interval):
        if since < moment <= now:
            since = moment
        if now < moment < until:
            until = moment
    return Activity(active, since, until)


def sun_time(event: Literal["sunrise", "sunset"], day: date, place: Coordinates, zone: tzinfo | None) -> datetime:
    """Return sunrise or sunset of a local day in UTC.

    On a day without sunset (polar day) the sun rises at 00:00 and sets at 24:00. On a day without sunrise (polar night)
    it rises and sets at 12:00.
    """
    from astral import Observer, sun  # noqa: PLC0415 - loaded only where sun times are used

    observer = Observer(place.latitude, place.longitude)
    noon = _utc(day, _NOON_MINUTES, zone)
    # The day of the sun, which begins at its midnight: in summer it may set after midnight of the clock.
    solar = timezone(timedelta(minutes=round(place.longitude * 4)))
    try:
        function = sun.sunrise if event == "sunrise" else sun.sunset
        return function(observer, noon.astimezone(solar).date(), tzinfo=solar).astimezone(UTC)
    except ValueError:  # it does not rise or set
        if sun.elevation(observer, noon) <= _HORIZON_DEG:
            return noon
        return _utc(day, 0 if event == "sunrise" else _DAY_MINUTES, zone)


def _time_of_day(groups: Sequence[str | None]) -> TimeOfDay:
    hours, minutes, event, sign, offset_hours, offset_minutes = groups
    if hours is not None and minutes is not None:
        total = int(hours) * 60 + int(minutes)
        if int(minutes) > 59 or total > _DAY_MINUTES:
            raise ValueError(f"has no clock time {hours}:{minutes}; times are from 00:00 to 24:00")
        return TimeOfDay("clock", total)
    offset = timedelta(hours=int(offset_hours or 0), minutes=int(offset_minutes or 0))
    if sign is not None and (not offset or offset > _MOST_OFFSET):
        raise ValueError("must be at most 6h before or after sunrise or sunset, such as sunset+1h30m")
    total = round(offset.total_seconds() / 60)
    return TimeOfDay("sunrise" if event == "sunrise" else "sunset", -total if sign == "-" else total)


def _moment(time_of_day: TimeOfDay, day: date, place: Coordinates | None, zone: tzinfo | None) -> datetime:
    if time_of_day.event == "clock":
        return _utc(day, time_of_day.minutes, zone)
    if place is None:
        raise ValueError("sun times need a location")
    return sun_time(time_of_day.event, day, place, zone) + timedelta(minutes=time_of_day.minutes)


def _utc(day: date, minutes: int, zone: tzinfo | None) -> datetime:
    """Return a local clock time in UTC: one that a change of the clock skips is as much later, of two the first."""
    local = datetime.combine(day, time()) + timedelta(minutes=minutes)
    return (local if zone is None else local.replace(tzinfo=zone)).astimezone(UTC)
