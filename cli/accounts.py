"""``hareline users`` and ``hareline tokens``: who may come in at the console and the HTTP API."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli.given import milliseconds, operator
from cli.opened import control
from cli.shown import as_json, plain, say, table
from errors import BadAccount
from settings import load

if TYPE_CHECKING:
    from control.permissions import Role
    from ledger.account_queries import AccountQueries

users = typer.Typer(no_args_is_help=True, help="Users of the console: add, list, change.")
tokens = typer.Typer(no_args_is_help=True, help="API tokens of programs: create, list, revoke.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RoleOption = Annotated[str, typer.Option("--role", help="viewer, payload-viewer, operator or admin.")]
Queues = Annotated[
    list[str] | None,
    typer.Option("-q", "--queue", help="Only these queues: a name, or the beginning of names and a star (billing.*)."),
]


@users.command("add")
def add_user(
    name: str,
    role: RoleOption = "viewer",
    queue: Queues = None,
    by_proxy: Annotated[bool, typer.Option("--by-proxy", help="No password: a trusted proxy says who it is.")] = False,
) -> None:
    """Add a user.

    The password is asked for; without a terminal, it is the first line of the standard input.
    """
    from control.users import add

    password = None if by_proxy else _password()
    with control() as ledger:
        add(ledger, name, password, _role(role), queues=queue or (), by=operator())
    say(f"{name} may come in as {role}")


@users.command("ls")
def list_users(json: Json = False) -> None:
    """List the users."""
    with _accounts() as asked:
        found = asked.users()
    if json:
        return as_json(plain(found))
    columns = ("name", "role", "queues", "password", "disabled", "changed at", "changed by")
    rows = [
        (x.name, x.role, " ".join(x.queues) or "all", x.by_password, x.disabled, x.changed_at, x.changed_by)
        for x in found
    ]
    table(columns, rows)


@users.command("passwd")
def change_password(name: str) -> None:
    """Give a user another password, and end their sessions."""
    from control.users import change

    password = _password()
    with control() as ledger:
        change(ledger, name, password=password, by=operator())
    say(f"{name} has another password")


@users.command("role")
def change_role(name: str, role: str, queue: Queues = None) -> None:
    """Give a user another role, on all queues or on some, and end their sessions."""
    from control.users import change

    with control() as ledger:
        change(ledger, name, role=_role(role), queues=queue or (), by=operator())
    say(f"{name} is {role}")


@users.command("disable")
def disable_user(name: str, enable: Annotated[bool, typer.Option("--undo", help="Let them in again.")] = False) -> None:
    """Let a user in no more, and end their sessions."""
    from control.users import change

    with control() as ledger:
        change(ledger, name, disabled=not enable, by=operator())
    say(f"{name} may come in again" if enable else f"{name} may come in no more")


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="Who will have it.")],
    role: RoleOption = "viewer",
    queue: Queues = None,
    expires: Annotated[str, typer.Option(help="For how long it is good: 90d, 12h; never.")] = "90d",
    json: Json = False,
) -> None:
    """Create an API token, and print it.

    It is kept nowhere: put it where your secrets are.
    """
    from control.tokens import create

    lasts = None if expires == "never" else timedelta(milliseconds=milliseconds(expires))
    with control() as ledger:
        made = create(ledger, name, _role(role), queues=queue or (), expires_in=lasts, by=operator())
    if json:
        return as_json({"id": made.id, "token": made.token})
    print(made.token)


@tokens.command("ls")
def list_tokens(json: Json = False) -> None:
    """List the API tokens, revoked and expired ones too."""
    with _accounts() as asked:
        found = asked.tokens()
    if json:
        return as_json(plain(found))
    columns = ("id", "name", "role", "queues", "created at", "by", "expires at", "revoked at", "used at")
    dates = [(x.created_at, x.created_by, x.expires_at, x.revoked_at, x.used_at) for x in found]
    rows = [(x.id, x.name, x.role, " ".join(x.queues) or "all", *when) for x, when in zip(found, dates, strict=True)]
    table(columns, rows)


@tokens.command("revoke")
def revoke_token(id: str) -> None:
    """Let nobody in with a token any more."""
    from control.tokens import revoke

    with control() as ledger:
        done = revoke(ledger, id, by=operator())
    say(f"{id} is revoked" if done else f"{id} was revoked before")


def _role(text: str) -> "Role":
    from control.permissions import Role

    if text not in list(Role):
        raise BadAccount(f"{text!r} is no role; there are: {', '.join(Role)}")
    return Role(text)


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")


@contextmanager
def _accounts() -> Iterator["AccountQueries"]:
    from ledger.account_queries import AccountQueries

    opened = AccountQueries(load().database_url)
    try:
        yield opened
    finally:
        opened.close()
