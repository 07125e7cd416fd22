"""``hareline schedules``: what is sent again and again; add, change, pause, run now, while schedulers run."""

import json as json_
from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from cli.exits import BadInput
from cli.given import agreed, json_of, milliseconds, operator
from cli.opened import control, schedule_queries
from cli.shown import as_json, duration, say, table
from errors import BadSchedule, ScheduleNotFound, nearest
from ledger.schedules import Schedule
from ledger.schedules.timetable import Timetable
from ledger.schedules.words import words

app = typer.Typer(no_args_is_help=True, help="Look at the schedules, add and change them, pause, run now.")

Key = Annotated[str, typer.Argument(metavar="KEY", help="A schedule, as `ls` shows it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
When = Annotated[str, typer.Argument(help="every 3s, every 1h30m, or cron: 5 fields, or 6 with the seconds first.")]
Tz = Annotated[str | None, typer.Option(help="The time zone the cron fields are in; UTC, if never given.")]
Args = Annotated[str | None, typer.Option(help="The actor's arguments, as a JSON list.")]
Kwargs = Annotated[str | None, typer.Option(help="Its keyword arguments, as a JSON object.")]
Options = Annotated[str | None, typer.Option(help="Options of the message, as a JSON object.")]
Start = Annotated[str | None, typer.Option(help="Nothing fires before: 2026-07-01T09:00+02:00.")]
End = Annotated[str | None, typer.Option(help="Nothing fires after.")]
Jitter = Annotated[str | None, typer.Option(help="Each tick up to so much later: 30s, 5m.")]
Dst = Annotated[str | None, typer.Option(help="On the nights on which clocks change: once or wall.")]
Missed = Annotated[str | None, typer.Option(help="Of ticks that could not be sent in time: skip, latest or all.")]
Within = Annotated[str | None, typer.Option(help="How late one may still be sent: 10m, 1h, 7d.")]
Most = Annotated[int | None, typer.Option(help="With --missed all: at most so many at once.")]
Overlap = Annotated[str | None, typer.Option(help="While the last tick's job lives: allow, skip, queue or cancel.")]


@app.command("ls")
def ls(
    unhealthy: Annotated[bool, typer.Option("--unhealthy", help="Only those with something to mend.")] = False,
    json: Json = False,
) -> None:
    """List the schedules, those the code does not declare any more too."""
    with schedule_queries() as asked:
        rows = [row for row in asked.all() if row.troubles or not unhealthy]
    if json:
        return as_json([_row(row) for row in rows])
    table(
        ("schedule", "actor", "when", "state", "next", "last", "health"),
        [
            (
                row.key,
                row.actor,
                row.words,
                row.state,
                row.next_at,
                row.last.outcome if row.last else "",
                "; ".join(row.troubles) or ("ok" if row.state == "active" else row.left_out),
            )
            for row in rows
        ],
    )


@app.command()
def show(
    key: Key,
    ticks: Annotated[int, typer.Option(min=1, max=10_000, help="So many of its last ticks.")] = 10,
    json: Json = False,
) -> None:
    """Show one schedule and its last ticks: how late each was, and what became of its job."""
    with schedule_queries() as asked:
        row = _known(asked, key)
        history = asked.history(key, ticks)
    if json:
        return as_json({**_row(row), "ticks": history})
    lines = {
        "schedule": row.key,
        "in words": row.words,
        "state": row.state + (f" since {row.paused_at} by {row.paused_by}" if row.paused_at else ""),
        "left out": row.left_out,
        "health": "; ".join(row.troubles) or "ok",
        "source": row.source,
        "changed": f"{row.changed_at.isoformat(timespec='seconds')} by {row.changed_by}",
        **({k: v for k, v in _definition(row).items() if v not in (None, [], {})}),
    }
    for name, value in lines.items():
        if value != "":
            say(f"{name:<9} {value if isinstance(value, str) else json_.dumps(value)}")
    table(
        ("tick", "outcome", "late", "job", "its state", "why"),
        [(x.fire_at, x.outcome, duration(x.late_s), x.job, x.state, x.why) for x in history],
    )


@app.command()
def add(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its name, for ever.")],
    actor: Annotated[str, typer.Argument(help="The actor's name.")],
    when: When,
    tz: Tz = None,
    args: Args = None,
    kwargs: Kwargs = None,
    options: Options = None,
    start: Start = None,
    end: End = None,
    jitter: Jitter = None,
    dst: Dst = None,
    missed: Missed = None,
    within: Within = None,
    most: Most = None,
    overlap: Overlap = None,
    json: Json = False,
) -> None:
    """Add a schedule; running schedulers send it from now on."""
    given = _given(tz, args, kwargs, options, start, end, jitter, dst, missed, within, most, overlap)
    _put(Schedule(key, actor, when, **given), "new", json)


@app.command("set")
def change(
    key: Key,
    actor: Annotated[str | None, typer.Option(help="Another actor.")] = None,
    when: Annotated[str | None, typer.Option(help="Another time: every 3s, or cron.")] = None,
    tz: Tz = None,
    args: Args = None,
    kwargs: Kwargs = None,
    options: Options = None,
    start: Start = None,
    end: End = None,
    jitter: Jitter = None,
    dst: Dst = None,
    missed: Missed = None,
    within: Within = None,
    most: Most = None,
    overlap: Overlap = None,
    json: Json = False,
) -> None:
    """Change a schedule that was added here; what is not given stays.

    One that the code declares is changed there.
    """
    given = _given(tz, args, kwargs, options, start, end, jitter, dst, missed, within, most, overlap)
    given |= {name: value for name, value in (("actor", actor), ("when", when)) if value is not None}
    if not given:
        raise BadInput("nothing to change was given; `hareline schedules set --help` lists what there is")
    with schedule_queries() as asked:
        row = _known(asked, key)
    if row.schedule is None:
        raise BadInput(f"what is kept of {key!r} cannot be read; remove it and add it anew")
    kept = {name: getattr(row.schedule, name) for name in Schedule.__dataclass_fields__}
    _put(Schedule(**(kept | given)), "known", json)


@app.command()
def pause(key: Key, json: Json = False) -> None:
    """Send nothing of it any more, until it is resumed."""
    from control.schedules import pause as verb

    with control() as ledger:
        verb(ledger, key, by=operator())
    as_json({key: "paused"}) if json else say(f"{key} is paused; `hareline schedules resume {key}` lets it go on")


@app.command()
def resume(key: Key, json: Json = False) -> None:
    """Let it go on with its next tick."""
    from control.schedules import resume as verb

    with control() as ledger:
        verb(ledger, key, by=operator())
    as_json({key: "active"}) if json else say(f"{key} goes on")


@app.command()
def rm(
    key: Key,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Forget a schedule and its ticks.

    Its jobs stay.  One that the code declares can only be paused.
    """
    from control.schedules import remove as verb

    if not agreed(f"Remove schedule {key!r} and the history of its ticks?", yes):
        raise typer.Exit(1)
    with control() as ledger:
        verb(ledger, key, by=operator())
    as_json({key: "removed"}) if json else say(f"{key} is removed")


@app.command()
def run(key: Key, json: Json = False) -> None:
    """Send its message now, besides its ticks; also of one that is paused."""
    with schedule_queries() as asked:
        row = _known(asked, key)
    if row.schedule is None:
        raise BadInput(f"what is kept of {key!r} cannot be read; remove it and add it anew")
    from actors import broker
    from broker.deeds import run_schedule

    with control() as ledger:
        id = run_schedule(broker, ledger, row.schedule, by=operator())
    job = broker.queries.job(id) if id is not None else None
    broker.close()
    if json:
        return as_json({"schedule": key, "job": job.id if job else None})
    say(f"{job.id} is {job.state} on {job.queue}" if job else f"a job like that of {key} is there already")


@app.command()
def preview(
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="A schedule; or give --when.")] = None,
    when: Annotated[str | None, typer.Option(help="A timetable that is not a schedule yet: every 3s, or cron.")] = None,
    tz: Annotated[str, typer.Option(help="With --when: its time zone.")] = "UTC",
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=10_000, help="So many.")] = 5,
    after: Annotated[str | None, typer.Option(help="After then instead of now: 2026-10-25T00:00+02:00.")] = None,
    json: Json = False,
) -> None:
    """Print when it fires next: in words, in its own time and in UTC."""
    if (key is None) == (when is None):
        raise BadInput("say which: a schedule's KEY, or --when with a timetable")
    if when is not None:
        timetable, now = Timetable(when, tz), datetime.now(UTC)
    else:
        with schedule_queries() as asked:
            row, now = _known(asked, str(key)), asked.time()
        if row.schedule is None:
            raise BadInput(f"what is kept of {key!r} cannot be read; remove it and add it anew")
        timetable = row.schedule.timetable
    times = timetable.preview(_moment("--after", after) if after else now, count)
    zone = ZoneInfo(timetable.tz)
    if json:
        fires = [{"local": at.astimezone(zone).isoformat(), "utc": at.isoformat()} for at in times]
        return as_json({"words": words(timetable), "tz": timetable.tz, "fires": fires})
    say(words(timetable))
    table(
        ("local", "utc"),
        [(f"{at.astimezone(zone):%a %Y-%m-%d %H:%M:%S %Z}", f"{at:%Y-%m-%d %H:%M:%S}") for at in times],
    )


def _put(schedule: Schedule, expect: Any, json: bool) -> None:
    from actors import broker
    from control.schedules import put

    with control() as ledger:
        done = put(ledger, [schedule], judge=broker, by=operator(), expect=expect)
    said = words(schedule.timetable)
    first = next(iter(schedule.timetable.preview(datetime.now(UTC), 1)), None)
    if json:
        return as_json({"schedule": schedule.key, "change": done[schedule.key], "words": said, "next": first})
    say(f"{schedule.key}: {schedule.actor} {said}" + (f", next {first.isoformat()}" if first else ""))


def _given(
    tz: str | None,
    args: str | None,
    kwargs: str | None,
    options: str | None,
    start: str | None,
    end: str | None,
    jitter: str | None,
    dst: str | None,
    missed: str | None,
    within: str | None,
    most: int | None,
    overlap: str | None,
) -> dict[str, Any]:
    """The fields of a schedule that were typed."""
    read = {
        "tz": tz,
        "args": None if args is None else tuple(json_of("--args", args, list, '["a", 1]')),
        "kwargs": None if kwargs is None else json_of("--kwargs", kwargs, dict, '{"a": 1}'),
        "options": None if options is None else json_of("--options", options, dict, '{"priority": 1}'),
        "start": None if start is None else _moment("--start", start),
        "end": None if end is None else _moment("--end", end),
        "jitter_s": None if jitter is None else milliseconds(jitter) / 1000,
        "dst": dst,
        "missed": missed,
        "within_s": None if within is None else milliseconds(within) / 1000,
        "most": most,
        "overlap": overlap,
    }
    return {name: value for name, value in read.items() if value is not None}


def _moment(option: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{option} {text!r} is no time; write for example 2026-07-01T09:00+02:00") from None
    if found.tzinfo is None:
        raise BadInput(f"{option} {text!r} has no time zone; write for example {text}+00:00")
    return found


def _known(asked: Any, key: str) -> Any:
    row = asked.one(key)
    if row is None:
        raise ScheduleNotFound(f"there is no schedule {key!r}; {nearest(key, asked.keys())}")
    return row


def _definition(row: Any) -> dict[str, Any]:
    try:
        return dict(json_.loads(row.schedule.definition())) if row.schedule is not None else {}
    except BadSchedule:
        return {}


def _row(row: Any) -> dict[str, Any]:
    """As JSON has it: without the object, with what it is made of."""
    names = (
        *("key", "source", "actor", "words", "state", "left_out", "paused_at", "paused_by", "changed_at"),
        *("changed_by", "next_at", "last", "failures"),
    )
    health = {"healthy": not row.troubles, "troubles": list(row.troubles)}
    return {name: getattr(row, name) for name in names} | health | {"definition": _definition(row)}
