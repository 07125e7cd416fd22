"""``hareline limits``: how fast jobs may start, and how many run at once; change it while they do."""

from typing import Annotated

import typer

from cli.given import operator
from cli.opened import control, queries
from cli.shown import as_json, duration, say, table
from errors import NotFound
from ledger.views import RuleView
from middleware.concurrency import Concurrency
from middleware.rates import Rate

app = typer.Typer(
    no_args_is_help=True, help="Look at rates, limits of concurrency and sequences; change limits while jobs run."
)

Rule = Annotated[str, typer.Argument(metavar="RULE", help="As `ls` shows: actor:NAME:KEY, running:queue:NAME …")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

#: Limits with a key of their own that are listed: those with the longest to wait.
MOST = 20


@app.command("ls")
def ls(json: Json = False) -> None:
    """List the limits; the rates with the longest wait; the limits and sequences that most jobs wait for."""
    from actors import broker
    from broker import knobs
    from control.limits import listing

    with queries() as asked:
        changed, waiting, gates = listing(asked, MOST)
        queues = knobs.changed(broker, asked)
    now = {rule.rule: rule for rule in changed}
    rules = [
        {
            "rule": rule,
            "rate": str(limit),
            "burst": limit.burst if isinstance(limit, Rate) else None,
            "now": str(_changed(now[rule])) if rule in now else None,
            "now_burst": now[rule].burst if rule in now and now[rule].per_s else None,
            "by": now[rule].changed_by if rule in now else None,
        }
        for rule, limit in sorted(_rules().items())
    ]
    if json:
        return as_json({"rules": rules, "queues": queues, "waiting": waiting, "blocked": gates})
    table(("rule", "rate", "burst", "now", "burst now", "by"), [tuple(rule.values()) for rule in rules])
    if changes := [(queue, x) for queue, views in queues.items() for x in views]:
        table(
            ("queue", "limit", "now", "code", "changed", "by"),
            [(queue, x.knob, x.now, x.code, x.changed_at, x.changed_by) for queue, x in changes],
        )
    if waiting:
        table(("limit", "next free start"), [(limit.key, duration(limit.wait_s)) for limit in waiting])
    if gates:
        table(
            ("blocked", "waiting", "since", "at once", "held by"),
            [(x.key, x.waiting, x.since, x.capacity, ", ".join(x.held_by[:3])) for x in gates],
        )


@app.command("set")
def change(
    rule: Rule,
    limit: Annotated[
        str, typer.Argument(help="So many starts in a time: 10/s, 0.5/s, 100/5m, 1000/h. So many at once: 3.")
    ],
    burst: Annotated[int, typer.Option(min=1, help="Starts that may come at once after a pause.")] = 1,
    json: Json = False,
) -> None:
    """Let jobs start at another rate, or more or fewer run at once, in every worker, from now on.

    Starts that are reserved already stay where they are, and what runs goes on.
    """
    from broker import catalogue
    from control.limits import change as verb

    wanted = catalogue.changed(_check(rule), limit)

    per_s = wanted.per_s if isinstance(wanted, Rate) else 0.0
    with control() as ledger:
        verb(ledger, rule, wanted.count, per_s, burst, by=operator())
    if json:
        return as_json({"rule": rule, "rate": str(wanted), "burst": burst})
    say(f"{rule}: {wanted}; `hareline limits unset {rule}` goes back to the code's")


@app.command("unset")
def restore(rule: Rule, json: Json = False) -> None:
    """Go by the limit in the code again."""
    _check(rule)
    from control.limits import restore as verb

    with control() as ledger:
        done = verb(ledger, rule, by=operator())
    if json:
        return as_json(done)
    say(f"{rule}: the code's limit counts again" if done else f"{rule}: the code's limit counts already")


@app.command("release")
def release(
    key: Annotated[str, typer.Argument(metavar="LIMIT", help="One limit, as `ls` shows it.")], json: Json = False
) -> None:
    """Forget what a limit has let through, and that the other side wanted to be left alone.

    Jobs that have a slot already keep it.
    """
    from control.limits import release as verb

    with control() as ledger:
        done = verb(ledger, key, by=operator())
    if not done:
        raise NotFound(f"nothing waits for a limit {key!r}; `hareline limits ls` shows those that do")
    if json:
        return as_json(done)
    say(f"{key}: the next job starts at once")


def _rules() -> "dict[str, Rate | Concurrency]":
    from actors import broker
    from broker import catalogue

    return catalogue.rules(broker)


def _changed(rule: RuleView) -> Rate | Concurrency:
    return Rate(rule.count, rule.per_s) if rule.per_s else Concurrency(int(rule.count))


def _check(rule: str) -> Rate | Concurrency:
    from actors import broker
    from broker import catalogue

    return catalogue.rule(broker, rule)
