"""The catalogue of queues, and its page in the reference.

python -m tests.unit.test_queue_catalogue > docs/reference/queues.md
"""

from pathlib import Path

from actors import broker
from actors.queues import CATALOGUE

PAGE = Path(__file__).parents[2] / "docs/reference/queues.md"

DESIGNED = """
usage-tracking   5
billing          3
embeddings       3
email-sync       5
notifications   20
email            5
webhooks        10
llm-requests     3  10/s
tool-execution  10  100/s
workflow         5
data-processing  3
cache-warmup     2
chain            2
maintenance      1
"""


def page() -> str:
    lines = [
        "# Queues",
        "",
        "Generated from `actors/queues.py` by `python -m tests.unit.test_queue_catalogue`.",
        "",
        "A queue is declared when it has a job; the others are reserved names. Concurrency is per worker process and",
        "can be set: `HARELINE_QUEUES__USAGE_TRACKING__CONCURRENCY=8`; so can the rate, which holds over all",
        "workers: `HARELINE_QUEUES__EMAIL__RATE=100/m`, and **max running**, how many run at once over all workers:",
        "`HARELINE_QUEUES__EMAIL__MAX_RUNNING=10`.",
        "",
        "**max waiting** (`HARELINE_QUEUES__USAGE_TRACKING__MAX_WAITING=100000`): while so many jobs that were sent",
        "without a delay have not ended, a send, or a tick of a schedule, is refused with `QueueFull`. Not refused are",
        "delayed jobs, messages of others, and what commits with a job's end. What was sent while there was no limit",
        "does not count.",
        "A process counts every quarter of a second at most: what others send meanwhile may go beyond the limit.",
        "",
        "| queue | concurrency | max running | max waiting | rate limit | jobs, with their priority |",
        "|---|---|---|---|---|---|",
    ]
    for queue in CATALOGUE.values():
        actors = sorted(
            (actor for actor in broker.actors.values() if actor.queue_name == queue.name),
            key=lambda actor: (actor.priority, actor.actor_name),
        )
        jobs = ", ".join(f"{actor.actor_name} ({actor.priority})" for actor in actors) or "–"
        lines.append(
            f"| {queue.name} | {queue.concurrency} | {queue.max_running or '–'} | {queue.max_waiting or '–'} "
            f"| {queue.rate or '–'} | {jobs} |"
        )
    return "\n".join(lines) + "\n"


def test_the_catalogue_is_the_designed_one() -> None:
    rows = [(queue.name, str(queue.concurrency), *([queue.rate] if queue.rate else [])) for queue in CATALOGUE.values()]

    assert rows == [tuple(line.split()) for line in DESIGNED.strip().splitlines()]


def test_every_queue_is_listed_under_its_own_name() -> None:
    assert all(name == queue.name for name, queue in CATALOGUE.items())


def test_only_queues_with_actors_are_declared_and_all_of_them_are_in_the_catalogue() -> None:
    declared = broker.get_declared_queues()

    assert declared == {actor.queue_name for actor in broker.actors.values()}
    assert declared <= CATALOGUE.keys()


def test_the_broker_gives_each_queue_the_concurrency_of_the_catalogue() -> None:
    assert {name: broker.concurrency(name) for name in CATALOGUE} == {
        name: queue.concurrency for name, queue in CATALOGUE.items()
    }


def test_the_reference_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), f"run: python -m {__name__} > {PAGE}"


if __name__ == "__main__":
    print(page(), end="")
