"""Listeners in real workers, on every road, and what the feed and the command line tell of the same jobs."""

import json

from control import Control
from control.feed import Feed
from control.followers import overview
from control.jobs import cancel
from tests.acceptance.system import System
from tests.program import Program, hareline

SEND = "add.send(1, 2)\nfail.send(log, 'x')\n"
LATE = (
    "record.send_with_options(args=(log, 'late'), expires=1)\nnap.send_with_options(args=(log, 'z', 0), delay=60_000)"
)


def test_listeners_are_told_and_followers_miss_nothing(somewhere: System) -> None:
    told = somewhere.folder / "told"
    told.touch()
    somewhere.env["TOLD"] = str(told)
    env = {**somewhere.env, "HARELINE_LOG_FORMAT": "json"}
    follow = hareline("events", "follow", "billing", "--json")
    assert list(Feed(somewhere.database_url, "billing", wait=False)) == []
    with Program(follow, somewhere.folder, env) as follower:
        somewhere.run(SEND + LATE)
        somewhere.worker(app="tests.acceptance.listening")
        somewhere.until(lambda: len(told.read_text().splitlines()) >= 8)
        [(delayed,)] = somewhere.sql("SELECT id FROM jobs WHERE state = 'delayed'")
        control = Control(somewhere.database_url, "embedded")
        cancel(control, str(delayed), by="cli:ada")
        control.close()
        lines = [json.loads(line) for line in follower.wait('"event"', count=6)]
    assert sorted(told.read_text().splitlines()) == [
        "completed add None None True",
        # whoever found it: a worker, or the duty that looks for such
        *[line for line in told.read_text().splitlines() if line.startswith("expired record")],
        "failed fail RuntimeError retries_exhausted False",
        "retrying fail RuntimeError None False",
        "retrying fail RuntimeError None False",
        "started fail 1",
        "started fail 2",
        "started fail 3",
    ]
    # What no worker had in hand only the feed tells.
    assert sorted((line["event"], line["actor"]) for line in lines) == [
        ("cancelled", "nap"),
        ("completed", "add"),
        ("expired", "record"),
        ("failed", "fail"),
        ("retrying", "fail"),
        ("retrying", "fail"),
    ]
    assert somewhere.states() == {"completed": 1, "failed": 2, "cancelled": 1}
    found = somewhere.until(lambda: overview(somewhere.database_url).troubles)
    assert isinstance(found, list)
    [trouble] = found
    assert trouble.listener == "tests.acceptance.listening.stumble"
    assert json.loads(trouble.detail)["error"] == 'RuntimeError("a listener\'s own trouble")'
