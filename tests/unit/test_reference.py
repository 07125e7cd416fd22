"""The reference pages that are made from the code: settings, errors and metrics.

python -m tests.unit.test_reference          writes them
"""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dramatiq.middleware import Interrupt

import errors
from errors import HarelineError
from metrics.catalogue import METRICS, OTHER, Metric
from metrics.meter import MOST
from settings import VARIABLES, Settings

REFERENCE = Path(__file__).parents[2] / "docs/reference"

SETTINGS = """\
# Settings

Made from `settings.py` by `python -m tests.unit.test_reference`.

Each setting is looked up in the environment, then in `.env`, then in `hareline.toml` (both in the working directory);
else it has its default. In `hareline.toml` it has the name of the first column. An empty variable counts as unset. A
name that nobody knows and a value that cannot be used are refused, with the nearest right one. `hareline config` prints
what is in force and where it comes from.

| setting | variable | default | accepted | what it is |
|---|---|---|---|---|
"""

QUEUES = """
One queue is set by `HARELINE_QUEUES__USAGE_TRACKING__CONCURRENCY=8` (jobs at once in one process) and
`HARELINE_QUEUES__USAGE_TRACKING__MAX_WAITING=100000` (see [queues](queues.md)), or in `hareline.toml`:

```toml
[queues.usage-tracking]
concurrency = 8
max_waiting = 100_000
```

A variable is for the queue whose name differs from its own in case, dashes and underscores at most. Workers and the
scheduler do not start, and `hareline doctor` complains, with settings of a queue that there is not.

Failpoints (`HARELINE_FAILPOINTS`, see [guarantees](../guarantees.md#failpoints)) and the variables of the tests
(`HARELINE_TEST_RABBITMQ`) are read before there are settings.
"""

ERRORS = """\
# Errors

Made from `errors.py` by `python -m tests.unit.test_reference`. Every message says what is wrong, which one, and what to
do. The command line prints it as one line and ends with an [exit code](cli.md).

"""

METRICS_TEXT = f"""\
# Metrics

Made from `metrics/catalogue.py` by `python -m tests.unit.test_reference`. How they get to Prometheus, and which of them
are exact: [monitor](../how-to/monitor.md).

`job_type` is the actor; of actors the code does not know, and beyond {MOST} job types, queues, circuits or duties, it
is `{OTHER}`. `status` is how an attempt ended: `completed`, `failed`, `cancelled` and `skipped` end the job;
`retrying`, `snoozed`, `interrupted` and `parked` do not, nor does `blocked`: it found a gate full, before it ran.

| metric | kind | labels | what it is |
|---|---|---|---|
"""

BUCKETS = """
Buckets, in seconds or rows:

"""


def settings_page() -> str:
    schema = Settings.model_json_schema()["properties"]
    rows = [
        f"| {name} | `{VARIABLES[name]}` | {_default(name)} | {_accepted(name, schema[name])} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    ]
    return SETTINGS + "".join(rows) + QUEUES


def _default(name: str) -> str:
    value = Settings.model_fields[name].get_default(call_default_factory=True)
    return "–" if value in (None, {}) else f"`{value}`"


def _accepted(name: str, schema: dict[str, Any]) -> str:
    by_hand = {
        "database_url": "`sqlite:///PATH`, `postgresql://…`",
        "broker_url": "`amqp://…`, `amqps://…`, `embedded`",
        "posthog_url": "`http://…`, `https://…`",
        "openai_url": "`http://…`, `https://…`",
        "billing_webhook_url": "`http://…`, `https://…`",
        "google_oauth_url": "`http://…`, `https://…`",
        "gmail_url": "`http://…`, `https://…`",
        "smtp_url": "`smtp://…`, `smtps://…`, `smtp+plain://…`",
        "webhook_networks": "networks, separated by commas",
        "data_sources": "`s3://…`, `gs://…`, `abfs://…`, `https://…`, `http://…`, separated by spaces",
        "warmup_urls": "`http://…`, `https://…`, separated by spaces",
        "worker_count": "`cpus`, or a number of at least 1",
        "queues": "see below",
    }
    if name in by_hand:
        return by_hand[name]
    schema = next((kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"), schema)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "integer" and "exclusiveMinimum" in schema:
        return f"at least {schema['exclusiveMinimum'] + 1}"
    for key, words in (("exclusiveMinimum", "above"), ("minimum", "at least")):
        if key in schema:
            return f"{words} {schema[key]:g}"
    return "any text"


def errors_page() -> str:
    tree = inspect.cleandoc(errors.__doc__ or "").partition("\n\n")[2].rpartition("\n\n")[0]
    return ERRORS + f"```text\n{inspect.cleandoc(tree)}\n```\n" + "".join(_described())


def _described() -> Iterator[str]:
    for name in errors.__all__:
        kind = getattr(errors, name)
        if issubclass(kind, (HarelineError, Interrupt)):
            text = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("``", "`")
            yield f"\n**{name}**: {text}\n"


def metrics_page() -> str:
    def labels(metric: Metric) -> str:
        return ", ".join(f"`{label}`" for label in metric.labels) or "–"

    rows = [f"| `{metric.name}` | {metric.kind} | {labels(metric)} | {metric.help} |\n" for metric in METRICS]
    bounds = [
        f"- `{metric.name}`: {', '.join(f'{bound:g}' for bound in metric.buckets)}\n"
        for metric in METRICS
        if metric.buckets
    ]
    return METRICS_TEXT + "".join(rows) + BUCKETS + "".join(bounds)


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "errors.md": errors_page,
    "metrics.md": metrics_page,
}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_up_to_date(name: str) -> None:
    assert (REFERENCE / name).read_text() == PAGES[name](), f"run: python -m {__name__}"


def test_every_error_is_in_the_tree() -> None:
    tree = (errors.__doc__ or "").split()
    assert [name for name in errors.__all__ if name not in tree] == []


if __name__ == "__main__":
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page())
