"""``hareline gmail``: mailboxes that are read."""

import json as json_
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.exits import BadInput
from cli.given import agreed, operator
from cli.shown import as_json, say, table
from settings import load

app = typer.Typer(no_args_is_help=True, help="Mailboxes at Gmail: connect, list, disconnect.")

Account = Annotated[str, typer.Argument(help="The mailbox's address.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def connect(
    user: Annotated[str, typer.Argument(help="Who owns it, and is told when something is wrong with it.")],
    tokens: Annotated[
        str, typer.Option(help="A file with what Google's token endpoint answered, as JSON; - is the standard input.")
    ] = "-",
    json: Json = False,
) -> None:
    """Read a mailbox: now as a whole, then every five minutes.

    Google is asked first whether the tokens are good.
    """
    from actors.connections import Grant
    from actors.connections import connect as verb

    account = verb(user, Grant.parse(_read(tokens)), by=operator())
    if json:
        return as_json({"account": account, "user": user})
    say(f"{account} is connected for {user}, and is read now; `hareline gmail ls` shows how far")
    if load().keys is None:
        say("its tokens are kept in clear: HARELINE_KEYS is not set; `hareline keys generate` makes a key")


@app.command("ls")
def ls(json: Json = False) -> None:
    """List the mailboxes, and how far each is read."""
    from actors.mailboxes import every

    rows = every()
    if json:
        return as_json(rows)
    table(
        ("mailbox", "user", "state", "letters", "since", "why"),
        [
            (
                row["account"],
                row["user"],
                "disconnected" if not row["connected"] else "reading" if row["reading"] else "connected",
                row["letters"],
                row["connected_at"],
                row["why"] or "",
            )
            for row in rows
        ],
    )


@app.command()
def disconnect(
    account: Account,
    forget: Annotated[bool, typer.Option("--forget", help="And remove its letters.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Read a mailbox no more, and give its tokens back to Google.

    Its letters stay, unless they are to be forgotten.
    """
    from actors.connections import disconnect as verb

    if forget and not agreed(f"Remove all letters of {account}?", yes):
        raise typer.Exit(1)
    revoked = verb(account, forget=forget, by=operator())
    if json:
        return as_json({"account": account, "revoked": revoked, "forgotten": forget})
    say(f"{account} is disconnected" + (", and its letters are removed" if forget else ""))
    if not revoked:
        say("its tokens were not given back to Google: its owner can withdraw access there")


def _read(path: str) -> dict[str, object]:
    try:
        found = json_.loads(sys.stdin.read() if path == "-" else Path(path).read_text())
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise BadInput(f"{path} is no JSON; give what Google's token endpoint answered") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path} is no JSON object; give what Google's token endpoint answered")
    return found
