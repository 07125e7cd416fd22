"""The words a search is written with."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import BadCursor, BadQuery
from ledger.redact import HIDDEN, preview, redacted
from ledger.search import Bounded, Filter, cursor_of, parse, place_of
from ledger.states import Reason, State
from ledger.words import words_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_every_qualifier_restricts_its_part_and_the_rest_are_words() -> None:
    found = parse(
        'queue:billing.*,mail state:failed state:delayed actor:charge reason:poison error:"card refused" worker:7 '
        'args.customer.id:42 args.0:x tag:eu since:2h until:2026-11-22T11:30 refused "two words"',
        now=NOW,
    )
    assert found == Filter(
        queues=("billing.*", "mail"),
        states=(State.FAILED, State.DELAYED),
        actors=("charge",),
        reasons=(Reason.POISON,),
        error="card refused",
        worker=7,
        args=(("customer.id", "42"), ("0", "x")),
        tags=("eu",),
        since=NOW - timedelta(hours=2),
        until=datetime(2026, 11, 22, 11, 30, tzinfo=UTC),
        text="refused two words",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "queue:a,b state:failed args.x:1 hello",
        'actor:"with, comma" error:"a \\"quoted\\" word" tag:x',
        "id:01890000 worker:3 since:2026-11-22T11:30:00+00:00 fingerprint:abc",
    ],
)
def test_a_filter_says_itself_in_words_and_in_json(text: str) -> None:
    found = parse(text, now=NOW)
    assert parse(found.words(), now=NOW) == found
    assert Filter.from_json(found.to_json()) == found


NAMES = st.text(min_size=1)
SEVERAL = st.lists(NAMES, max_size=3).map(tuple)
ZONES = st.timezones() | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@settings(deadline=None)
@given(
    st.builds(
        Filter,
        states=st.lists(st.sampled_from(State), max_size=3).map(tuple),
        queues=SEVERAL,
        actors=SEVERAL,
        reasons=st.lists(st.sampled_from(Reason), max_size=3).map(tuple),
        fingerprint=st.text(),
        error=st.text(),
        worker=st.none() | st.integers(0, 999_999_999),
        since=st.none() | st.datetimes(timezones=ZONES),
        until=st.none() | st.datetimes(timezones=ZONES),
        text=st.text() | st.text(alphabet=' :",\\ab\n'),
        args=st.lists(st.tuples(st.from_regex(r"[\w.-]+", fullmatch=True), st.text()), max_size=2).map(tuple),
        tags=SEVERAL,
        ids=SEVERAL,
    )
)
def test_whatever_a_filter_has_its_words_are_read_as_the_same(found: Filter) -> None:
    assert parse(found.words()) == found


def test_words_that_look_like_a_qualifier_stay_words() -> None:
    found = parse('"state:completed" plain')
    assert found == Filter(text="state:completed plain")
    assert found.words() == '"state:completed" plain'


@pytest.mark.parametrize("moment", ["0001-01-01", "0001-01-01T00:00+05:00", "9999-12-31", "9999-12-31T23:00-05:00"])
def test_a_moment_at_the_end_of_time_is_one_that_all_zones_have(moment: str) -> None:
    found = parse(f"since:{moment} until:{moment}")
    assert found.since is not None
    assert found.since - timedelta(days=1) < found.since < found.since + timedelta(days=1)
    assert found.since == found.until == parse(found.words()).since


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sate:failed", "sate: is no qualifier; did you mean 'state'"),
        ("state:faild", "no such state; did you mean 'failed'"),
        ("reason:poisen", "did you mean 'poison'"),
        ("worker:fast", "a worker is named by its number"),
        ("worker:1 worker:2", "takes one value"),
        ("since:yesterday", "write an age"),
        ("since:99999999999999999999d", "write an age"),
        ("args.:1", "is no qualifier"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(BadQuery, match=told):
        parse(text)


def test_a_cursor_is_opaque_and_a_forged_one_is_refused() -> None:
    id = "01890000-0000-7000-8000-000000000001"
    assert place_of(cursor_of(id)) == id
    for forged in ("", "x", "é", cursor_of("1; DROP TABLE jobs"), cursor_of(id)[:-2]):
        with pytest.raises(BadCursor):
            place_of(forged)


def test_a_bounded_count_says_that_there_are_more() -> None:
    assert str(Bounded(412)) == "412"
    assert str(Bounded(10_000, more=True)) == "10,000+"


def test_secrets_are_not_shown_and_not_searched() -> None:
    kwargs = {
        "password": "hunter2",
        "nested": {"api_key": "k-1", "Authorization": "x", "plain": "seen"},
        "headers": ["Authorization: Bearer abcdefghijklmnop"],
        "url": "postgres://user:pw12345@host/db",
        "note": "token=abc123 and hareline-sealed:k1:QUJD",
    }
    message = {"actor_name": "act", "args": [], "kwargs": kwargs, "options": {"tags": ["Night Run"]}}
    assert redacted(kwargs)["password"] == HIDDEN
    searched = words_of(message)
    for text in (preview(message, 10_000), " ".join(searched)):
        for secret in ("hunter2", "k-1", "abcdefghijklmnop", "pw12345", "abc123", "QUJD", "qujd"):
            assert secret not in text
    assert {"seen", "nested.plain=seen", "act", "tag=night_run"} <= set(searched)


def test_the_words_of_a_huge_message_are_bounded() -> None:
    deep: list[object] = []
    for _ in range(500):
        deep = [deep]
    found = words_of({"args": [[f"word{n}" for n in range(10_000)], "x" * 10_000, deep], "actor_name": "act"})
    assert len(found) == 200
    assert max(map(len, found)) <= 60
