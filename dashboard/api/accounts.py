"""Who may come in: users, and tokens for programs."""

from datetime import timedelta

from pydantic import BaseModel, Field

from control import tokens, users
from control.permissions import Role
from dashboard.api.models import Input, Name
from dashboard.api.router import Routes
from dashboard.security import By
from dashboard.services import Opened, Services
from errors import NotFound
from ledger.account_queries import Token, User

router = Routes(tags=["accounts"])


class NewUser(Input):
    name: Name
    password: str | None = Field(
        default=None, max_length=1000, description="null: only a trusted proxy lets them in.", examples=[None]
    )
    role: Role
    queues: list[Name] = Field(default=[], description="The only queues they see; `billing.*` is a pattern.")


class ChangedUser(Input):
    """What is to be other than it was; what is not given stays."""

    password: str | None = Field(default=None, max_length=1000)
    role: Role | None = None
    queues: list[Name] | None = None
    disabled: bool | None = None


class NewToken(Input):
    name: Name = Field(description="Who uses it: the producer that `allowed_producers` name.", examples=["billing-api"])
    role: Role
    queues: list[Name] = Field(default=[], description="The only queues it is for.")
    expires_in_s: float | None = Field(default=None, gt=0, le=3.2e8, description="null: never.")


class MadeToken(BaseModel):
    id: str
    token: str = Field(description="To be sent as `Authorization: Bearer …`.  It is shown once, and kept nowhere.")


class Revoked(BaseModel):
    id: str


@router.get("/users")
def list_users(opened: Opened) -> list[User]:
    """List who may log in."""
    return opened.accounts.users()


@router.post("/users", status_code=201)
def add_user(opened: Opened, by: By, given: NewUser) -> User:
    """Let somebody log in."""
    users.add(opened.control, given.name, given.password, given.role, queues=given.queues, by=by)
    return _user(opened, given.name)


@router.patch("/users/{name}")
def change_user(opened: Opened, by: By, name: Name, given: ChangedUser) -> User:
    """Give somebody another password, role or queues, or keep them out."""
    users.change(opened.control, name, **dict(given), by=by)
    return _user(opened, name)


@router.get("/tokens")
def list_tokens(opened: Opened) -> list[Token]:
    """List the tokens, those revoked and expired too; what they are is kept nowhere."""
    return opened.accounts.tokens()


@router.post("/tokens", status_code=201)
def create_token(opened: Opened, by: By, given: NewToken) -> MadeToken:
    """Make a token for a program."""
    expires_in = None if given.expires_in_s is None else timedelta(seconds=given.expires_in_s)
    made = tokens.create(opened.control, given.name, given.role, queues=given.queues, expires_in=expires_in, by=by)
    return MadeToken(id=made.id, token=made.token)


@router.delete("/tokens/{id}")
def revoke_token(opened: Opened, by: By, id: Name) -> Revoked:
    """Let nobody in with it any more.  Idempotent."""
    if not tokens.revoke(opened.control, id, by=by) and id not in {token.id for token in opened.accounts.tokens()}:
        raise NotFound(f"there is no token {id!r}; the list of tokens has those there are")
    return Revoked(id=id)


def _user(opened: Services, name: str) -> User:
    found = opened.accounts.user(name)
    if found is None:
        raise NotFound(f"there is no user {name!r}")
    return found
