"""``hareline circuits``: what counts as down; open and close it by hand."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.exits import BadInput
from cli.given import milliseconds, operator
from cli.opened import control, queries
from cli.shown import as_json, duration, say, table

if TYPE_CHECKING:
    from middleware.circuit import Circuit

app = typer.Typer(no_args_is_help=True, help="Look at the circuit breakers, open and close them by hand.")

Name = Annotated[str, typer.Argument(metavar="CIRCUIT", help="A circuit by its name, as `ls` shows it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("ls")
def ls(json: Json = False) -> None:
    """List the circuits: how they stand, since when and why.

    Calls and failures are those that count now; put off are jobs that wait for the circuit to close.
    """
    from control.circuits import listing

    used = _used()
    with queries() as asked:
        views = {view.name: view for view in listing(asked, {name: use[0].rule.within for name, use in used.items()})}
    rows: list[dict[str, Any]] = []
    for name in sorted(used.keys() | views.keys()):
        view = views.get(name)
        rows.append(
            {
                "circuit": name,
                "state": view.state if view else "closed",
                "since": view.since if view and view.by else None,
                "why": view.why if view else "",
                "by": view.by if view else "",
                "open_s": view.open_s if view else None,
                "calls": view.calls if view else 0,
                "failures": view.failures if view else 0,
                "put_off": view.put_off if view else 0,
                "actors": used[name][1] if name in used else [],
            }
        )
    if json:
        return as_json(rows)
    for row in rows:
        row |= {"open_s": duration(row["open_s"]), "actors": ", ".join(row["actors"])}
    table(
        ("circuit", "state", "since", "why", "by", "tried in", "calls", "failures", "put off", "actors"),
        [tuple(row.values()) for row in rows],
    )


@app.command("open")
def hold_open(
    name: Name,
    length: Annotated[str, typer.Option("--for", help="How long nothing is tried: 500ms, 30s, 5m, 2h, 7d.")] = "1h",
    json: Json = False,
) -> None:
    """Start no job that uses this circuit.

    What runs, finishes. When the time is over a job probes, and if it succeeds, the circuit closes.
    """
    _check(name)
    ms = milliseconds(length)
    if not 0 < ms <= 31_536_000_000:
        raise BadInput(f"--for is more than nothing and at most a year (365d), got {length!r}")
    from control.circuits import hold_open as verb

    with control() as ledger:
        verb(ledger, name, ms / 1000, by=operator())
    if json:
        return as_json({"circuit": name, "for_s": ms / 1000})
    say(f"{name} is open for {duration(ms / 1000)}; `hareline circuits close {name}` closes it")


@app.command("close")
def close(name: Name, json: Json = False) -> None:
    """Let its jobs start again, and forget which calls failed.

    Jobs it had put off come back within seconds.
    """
    _check(name)
    from control.circuits import close as verb

    with control() as ledger:
        done = verb(ledger, name, by=operator())
    if json:
        return as_json(done)
    say(f"{name} is closed" if done else f"{name} was closed already; what it had counted is forgotten")


def _used() -> "Mapping[str, tuple[Circuit, list[str]]]":
    from actors import broker
    from broker import catalogue

    return catalogue.circuits(broker)


def _check(name: str) -> None:
    from actors import broker
    from broker import catalogue

    catalogue.demand_circuit(broker, name)
