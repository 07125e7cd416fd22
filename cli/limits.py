"""``hareline limits``: how fast jobs may start; change it while they run."""

from typing import Annotated

import typer

from cli.exits import BadInput, NotFound
from cli.given import nearest, operator
from cli.opened import control, queries
from cli.shown import as_json, duration, say, table
from middleware.rates import Rate

app = typer.Typer(no_args_is_help=True, help="Look at the rate limits, change them while jobs run.")

Rule = Annotated[str, typer.Argument(metavar="RULE", help="queue:NAME, actor:NAME or actor:NAME:KEY, as `ls` shows.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

#: Limits with a key of their own that are listed: those with the longest to wait.
MOST = 20


@app.command("ls")
def ls(json: Json = False) -> None:
    """List the rates, and the limits whose next free start is furthest away."""
    from control.limits import listing

    with queries() as asked:
        changed, waiting = listing(asked, MOST)
    now = {rule.rule: rule for rule in changed}
    rules = [
        {
            "rule": rule,
            "rate": str(rate),
            "burst": rate.burst,
            "now": f"{now[rule].count:g} per {now[rule].per_s:g} s" if rule in now else None,
            "now_burst": now[rule].burst if rule in now else None,
            "by": now[rule].changed_by if rule in now else None,
        }
        for rule, rate in sorted(_rules().items())
    ]
    if json:
        return as_json({"rules": rules, "waiting": waiting})
    table(("rule", "rate", "burst", "now", "burst now", "by"), [tuple(rule.values()) for rule in rules])
    if waiting:
        table(("limit", "next free start"), [(limit.key, duration(limit.wait_s)) for limit in waiting])


@app.command("set")
def change(
    rule: Rule,
    rate: Annotated[str, typer.Argument(help="So many starts in a time: 10/s, 0.5/s, 100/5m, 1000/h.")],
    burst: Annotated[int, typer.Option(min=1, help="Starts that may come at once after a pause.")] = 1,
    json: Json = False,
) -> None:
    """Let jobs start at another rate, in every worker, from now on.

    Slots that are reserved already stay where they are.
    """
    _check(rule)
    try:
        wanted = Rate.parse(rate)
    except ValueError as error:
        raise BadInput(str(error)) from None
    from control.limits import change as verb

    with control() as ledger:
        verb(ledger, rule, wanted.count, wanted.per_s, burst, by=operator())
    if json:
        return as_json({"rule": rule, "rate": str(wanted), "burst": burst})
    say(f"{rule}: {wanted}; `hareline limits unset {rule}` goes back to the code's")


@app.command("unset")
def restore(rule: Rule, json: Json = False) -> None:
    """Go by the rate in the code again."""
    _check(rule)
    from control.limits import restore as verb

    with control() as ledger:
        done = verb(ledger, rule, by=operator())
    if json:
        return as_json(done)
    say(f"{rule}: the code's rate counts again" if done else f"{rule}: the code's rate counts already")


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


def _rules() -> dict[str, Rate]:
    from actors import broker
    from middleware.limits import Limits

    return next(middleware.rules for middleware in broker.middleware if isinstance(middleware, Limits))


def _check(rule: str) -> None:
    """A misspelt rule would be silently without effect."""
    if rule not in (known := _rules()):
        raise NotFound(f"no rate limit is named {rule!r}; {nearest(rule, known)}")
