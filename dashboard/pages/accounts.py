"""Users and tokens: who may come in, and as what."""

from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from control import tokens, users
from control.permissions import Role
from dashboard.pages import flash
from dashboard.pages.forms import Act, Field, Verb, offer, offered
from dashboard.pages.rendering import Shell, page
from dashboard.security import By, allow
from dashboard.services import Opened
from errors import BadInput, HarelineError

router = APIRouter()


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise BadInput(f"{text!r} is no role; use one of {', '.join(Role)}") from None


def _change(act: Act) -> str:
    role = act.text("role")
    users.change(
        act.services.control,
        act.key,
        role=_role(role) if role else None,
        queues=act.text("queues").split() or None,
        password=act.text("password") or None,
        by=act.by,
    )
    act.to = "/settings/accounts"
    return f"{act.key} is changed, and has to log in anew"


def _disable(act: Act) -> str:
    users.change(act.services.control, act.key, disabled=True, by=act.by)
    act.to = "/settings/accounts"
    return f"{act.key} cannot log in any more"


def _enable(act: Act) -> str:
    users.change(act.services.control, act.key, disabled=False, by=act.by)
    act.to = "/settings/accounts"
    return f"{act.key} may log in again"


def _revoke(act: Act) -> str:
    tokens.revoke(act.services.control, act.key, by=act.by)
    act.to = "/settings/accounts"
    return f"Token {act.key} lets nobody in any more"


USER_VERBS: Final = (
    Verb(
        "change",
        "change_user",
        "Change",
        _change,
        say="What is left empty stays. Whoever is logged in as them has to do so again.",
        fields=(
            Field("role", "Role", ", ".join(Role), required=False),
            Field("queues", "Queues", "names or patterns, * for all", required=False),
            Field("password", "Password", "a new one", required=False, kind="password"),
        ),
    ),
    Verb("disable", "change_user", "Disable", _disable, say="Their sessions end at once.", danger=True),
    Verb("enable", "change_user", "Enable", _enable),
)
TOKEN_VERBS: Final = (
    Verb("revoke", "revoke_token", "Revoke", _revoke, say="Programs that use it are refused at once.", danger=True),
)
offer(router, "/settings/accounts/users", "user", USER_VERBS)
offer(router, "/settings/accounts/tokens", "token", TOKEN_VERBS)


@router.get("/settings/accounts", dependencies=[Depends(allow("list_users"))])
@router.get("/settings/accounts/{path:path}", dependencies=[Depends(allow("list_users"))])
def accounts(request: Request, opened: Opened) -> Response:
    return _page(request, opened)


@router.post("/settings/accounts/users", dependencies=[Depends(allow("add_user"))])
def add_user(
    request: Request,
    opened: Opened,
    by: By,
    name: Annotated[str, Form()],
    password: Annotated[str, Form()],
    role: Annotated[str, Form()],
    queues: Annotated[str, Form()] = "",
) -> Response:
    back = Shell(request).url("/settings/accounts")
    try:
        users.add(opened.control, name, password or None, _role(role), queues=queues.split(), by=by)
    except HarelineError as error:
        return flash.redirect(request, back, str(error), kind="error")
    return flash.redirect(request, back, f"{name} may log in, as {role}")


@router.post("/settings/accounts/tokens", dependencies=[Depends(allow("create_token"))])
def create_token(
    request: Request,
    opened: Opened,
    by: By,
    name: Annotated[str, Form()],
    role: Annotated[str, Form()],
    days: Annotated[int, Form(ge=0, le=3650)] = 90,
    queues: Annotated[str, Form()] = "",
) -> Response:
    """It is shown on this one page, and kept nowhere."""
    expires = timedelta(days=days) if days else None
    made = tokens.create(opened.control, name, _role(role), queues=queues.split(), expires_in=expires, by=by)
    return _page(request, opened, made=made)


def _page(request: Request, opened: Opened, made: tokens.NewToken | None = None) -> Response:
    return page(
        request,
        "accounts.html",
        title="Users and tokens",
        users=opened.accounts.users(),
        tokens=opened.accounts.tokens(),
        made=made,
        roles=list(Role),
        user_verbs={verb.name: verb for verb in offered(request, USER_VERBS, *(x.name for x in USER_VERBS))},
        token_verbs={verb.name: verb for verb in offered(request, TOKEN_VERBS, "revoke")},
    )
