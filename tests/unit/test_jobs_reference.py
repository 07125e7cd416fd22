"""The reference of the catalogue's jobs, made from their code.

python -m tests.unit.test_jobs_reference > docs/reference/jobs.md
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

from dramatiq import Actor

from actors import broker
from actors.queues import CATALOGUE
from ledger.schedules.declare import declared
from scheduler import SCHEDULES
from settings import Settings

PAGE = Path(__file__).parents[2] / "docs/reference/jobs.md"

HEAD = """\
# Jobs

Made from `actors/` by `python -m tests.unit.test_jobs_reference`.

Every job that comes with Hareline. Each is safe to run twice; what follows its name says how. Without the settings that
it needs, a job is a dead letter that names them, and its schedule is left out. Options that are not listed are the
[settings'](settings.md) defaults; how to write a job is in [add a job](../how-to/add-a-job.md).
"""

#: Options as the page shows them, in this order.
SHOWN = ("max_retries", "time_limit", "max_backoff", "rate_limit", "concurrency", "circuit", "unique")
FLAGS = ("atomic_sends", "store_results", "jitter")


def catalogue() -> list[Actor[Any, Any]]:
    """The actors of the catalogue, and not those that a test has declared."""
    return [actor for actor in broker.actors.values() if actor.fn.__module__.startswith("actors.")]


def page() -> str:
    actors = catalogue()
    text = [HEAD]
    for queue in CATALOGUE:
        mine = sorted((a for a in actors if a.queue_name == queue), key=lambda a: (a.priority, a.actor_name))
        if mine:
            text.append(f"\n## {queue}\n")
            text += [_entry(actor) for actor in mine]
    return "".join(text)


def _entry(actor: Actor[Any, Any]) -> str:
    lines = [f"\n### {actor.actor_name}\n", f"\n```python\n{_signature(actor)}\n```\n"]
    lines += [f"\n{paragraph}\n" for paragraph in _told(actor)]
    lines.append("\n| option | |\n|---|---|\n")
    lines += [f"| {name} | {value} |\n" for name, value in _options(actor)]
    return "".join(lines)


def _signature(actor: Actor[Any, Any]) -> str:
    parameters, hints = [], get_type_hints(actor.fn)
    for parameter in inspect.signature(actor.fn).parameters.values():
        kind = re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", inspect.formatannotation(hints[parameter.name]))
        kind = re.sub(r"Optional\[(.*)\]$", r"\1 | None", kind)
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parameters.append(f"{parameter.name}: {kind}{default}")
    return f"def {actor.actor_name}({', '.join(parameters)}): ...".replace("'", '"')  # as ruff would write it


def _told(actor: Actor[Any, Any]) -> list[str]:
    text = inspect.cleandoc(actor.fn.__doc__ or "").partition("\nParameters:")[0]
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n") if part.strip())
    return [re.sub(r":\w+:(?=`)", "", part.replace("``", "`")) for part in paragraphs]


def _options(actor: Actor[Any, Any]) -> Iterator[tuple[str, str]]:
    yield "priority", str(int(actor.priority))
    for name in SHOWN:
        if (value := actor.options.get(name)) is not None:
            yield name, _value(name, value)
    if flags := [name for name in FLAGS if actor.options.get(name)]:
        yield "also", ", ".join(flags)
    for schedule in (*SCHEDULES, *declared([actor])):
        if schedule.actor == actor.actor_name:
            why = schedule.skip(Settings())
            yield f"schedule `{schedule.key}`", f"`{schedule.when}`" + (f"; not by default: {why}" if why else "")


def _value(name: str, value: Any) -> str:
    match name:
        case "circuit":
            return str(value.name)
        case "unique":
            return f"by {', '.join(value['by'] or ['all arguments'])}: {value['mode']}"
        case "time_limit" | "max_backoff":
            return f"{value / 1000:g} s"
        case "rate_limit" | "concurrency":
            return str(value) + (f", for each {value.key}" if value.key else "")
    return str(value)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), f"run: python -m {__name__} > {PAGE}"


def test_every_job_says_how_a_second_run_is_harmless() -> None:
    silent = [actor.actor_name for actor in catalogue() if "Idempotent" not in (actor.fn.__doc__ or "")]
    assert silent == []


def test_every_schedule_is_of_a_job_that_is_there_and_left_out_where_its_needs_are_not_set() -> None:
    names = {actor.actor_name for actor in catalogue()}
    assert {schedule.actor for schedule in SCHEDULES} - names == set()
    bare = Settings(audit_log_retention_days=0)
    needing = ("cleanup-audit-log", "cleanup-embeddings", "daily-digest", "warmup-cache")
    assert [schedule.key for schedule in SCHEDULES if schedule.key in needing and not schedule.skip(bare)] == []


if __name__ == "__main__":
    print(page(), end="")
