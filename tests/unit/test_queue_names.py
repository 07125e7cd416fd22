"""Settings of queues, and the queues that there are."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dramatiq
import pytest

from broker import Broker, build
from broker.knobs import declared
from control.health import Rules
from errors import SettingsError
from ledger.orders import Knob
from scheduler import run
from settings import Settings, load


def built(folder: Path, toml: str = "", **queues: str) -> tuple[Settings, Broker]:
    (folder / "hareline.toml").write_text(toml)
    variables = {f"HARELINE_QUEUES__{name}": value for name, value in queues.items()}
    settings = load({"DATABASE_URL": f"sqlite:///{folder / 'h.db'}", **variables}, folder)
    row = SimpleNamespace(concurrency=2, keep=None, rate="10/s", max_running=None, max_waiting=7)
    broker = build(settings, queues={"Catalogued_One": row})
    for name in ("user_events", "billing"):
        dramatiq.actor(broker=broker, actor_name=f"on_{name}", queue_name=name)(_nothing)
    return settings, broker


def _nothing() -> None:
    """Never run."""


def test_a_variable_sets_the_queue_whose_name_it_cannot_spell(tmp_path: Path) -> None:
    knobs: dict[str, Any] = {"CONCURRENCY": "9", "RATE": "3/s", "MAX_RUNNING": "4", "MAX_WAITING": "5"}
    variables = {
        f"{queue}__{name}": value for queue in ("USER_EVENTS", "CATALOGUED_ONE") for name, value in knobs.items()
    }
    settings, broker = built(tmp_path, **variables, USER_EVENTS__HEALTH="waiting=1/2")
    dramatiq.actor(broker=broker, actor_name="catalogued", queue_name="Catalogued_One")(_nothing)
    expected = dict(
        zip((Knob.CONCURRENCY, Knob.RATE, Knob.MAX_RUNNING, Knob.MAX_WAITING), (9, "3/s", 4, 5), strict=True)
    )
    assert declared(broker, "user_events") == declared(broker, "Catalogued_One") == expected
    assert declared(broker, "billing")[Knob.MAX_WAITING] is None
    assert Rules.of(settings).of_queue("user_events")["waiting"] == (1, 2)
    broker.queue_names.check(broker)


def test_a_variable_goes_before_the_same_queue_in_the_file(tmp_path: Path) -> None:
    toml = "[queues.user_events]\nconcurrency = 3\nmax_waiting = 8\n[queues.billing]\nconcurrency = 1\n"
    _, broker = built(tmp_path, toml, USER_EVENTS__CONCURRENCY="6")
    found = declared(broker, "user_events")
    assert (found[Knob.CONCURRENCY], found[Knob.MAX_WAITING]) == (6, 8)


def test_settings_of_a_queue_that_there_is_not_are_refused_by_workers_and_schedulers(tmp_path: Path) -> None:
    settings, broker = built(tmp_path, BILING__RATE="3/s", CATALOGUED_ONE__CONCURRENCY="1")
    words = r"no actor is on queue 'biling'; correct or remove HARELINE_QUEUES__BILING__…, .* did you mean billing\?"
    with pytest.raises(SettingsError, match=words):
        dramatiq.Worker(broker).start()
    with pytest.raises(SettingsError, match=words):
        run([], settings, broker)
