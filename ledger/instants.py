"""Moments as SQLite keeps them: whole microseconds since 1970."""

from datetime import UTC, datetime


def to_micros(moment: datetime) -> int:
    """Exactly (a float of seconds would round)."""
    delta = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_micros(micros: int) -> datetime:
    seconds, rest = divmod(micros, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
