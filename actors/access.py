"""A mailbox's access token: had, refreshed by one job at a time, or lost."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from pydantic import SecretStr
from sqlalchemy import Connection

from actors import inbox, mailboxes
from actors.database import database
from actors.gmail import Unauthorized
from actors.mailbox_schedule import stop
from actors.mailboxes import Mailbox, Tokens, together
from actors.notifications import queue_notification
from actors.oauth import Granted, Revoked, oauth
from actors.outside import Refused
from errors import Snooze
from settings import load

T = TypeVar("T")

#: A token that lasts shorter is refreshed before it is used.
MARGIN = timedelta(minutes=1)
#: How soon to look again whether another job has refreshed it.
SOON = timedelta(seconds=1)

log = structlog.get_logger(__name__)


def asked(account: str, request: Callable[[str], T]) -> T:
    """What ``request`` answers, given an access token; with another one, once, if the first was refused.

    Raises what ``request`` does; ``Snooze``, while another job refreshes the token;
    :class:`~actors.oauth.Revoked`, once the owner has withdrawn access, who is told then.
    """
    token = fresh(account)
    try:
        return request(token)
    except Unauthorized as error:
        log.info("mailbox.token_refused", account=account, why=str(error))
        return request(fresh(account, refused=token))


def fresh(account: str, *, refused: str | None = None, margin: timedelta = MARGIN) -> str:
    """An access token that lasts for ``margin``, and is not the one that was refused; refreshed if need be."""
    tokens = _good(mailboxes.find(account), account, refused, margin)
    if tokens is None:
        with database().write() as connection:
            mailbox = mailboxes.read(connection, account, lock=True)
            tokens = _good(mailbox, account, refused, margin)
            if tokens is None and mailbox is not None:
                _lease(connection, mailbox)
        if tokens is None and mailbox is not None:
            tokens = _refreshed(mailbox)
    assert tokens is not None
    return tokens.access.get_secret_value()


def issued(granted: Granted, refresh: SecretStr, now: datetime) -> Tokens:
    """The tokens of a mailbox after a refresh; a refresh token is kept until another comes."""
    expires_at = now + timedelta(seconds=granted.expires_in)
    return Tokens(refresh=granted.refresh_token or refresh, access=granted.access_token, expires_at=expires_at)


def _good(mailbox: Mailbox | None, account: str, refused: str | None, margin: timedelta) -> Tokens | None:
    """Its tokens, if the access token may be used.  Raises ``Refused`` when there are none."""
    if mailbox is None or mailbox.tokens is None:
        raise Refused(f"the mailbox {account} is not connected; connect it", code="not_connected")
    tokens = mailbox.tokens
    is_good = tokens.expires_at - mailbox.at >= margin and tokens.access.get_secret_value() != refused
    return tokens if is_good else None


def _lease(connection: Connection, mailbox: Mailbox) -> None:
    """Be the one that refreshes.  Raises ``Snooze`` while that is another."""
    if mailbox.refreshing_until is not None and mailbox.refreshing_until > mailbox.at:
        raise Snooze(SOON, f"another job gets an access token for {mailbox.account}")
    until = mailbox.at + timedelta(seconds=2 * load().http_timeout_s)
    mailboxes.change(connection, mailbox.account, refreshing_until=until)


def _refreshed(mailbox: Mailbox) -> Tokens:
    account, before = mailbox.account, mailbox.tokens
    assert before is not None
    try:
        granted = oauth().refresh(before.refresh)
    except Revoked as error:
        _lost(mailbox, str(error))
        raise Revoked(f"{account} cannot be read any more, connect it again: {error}", code="invalid_grant") from None
    except Exception:
        with database().write() as connection:  # whoever comes next need not wait until the lease ends
            mailboxes.change(connection, account, refreshing_until=None)
        raise
    with database().write() as connection:
        after = issued(granted, before.refresh, database().time(connection))
        now = mailboxes.read(connection, account, lock=True)
        if now is not None and now.tokens == before:  # else it was disconnected, or connected again, meanwhile
            mailboxes.change(connection, account, tokens=mailboxes.sealed(account, after), refreshing_until=None)
    log.info("mailbox.refreshed", account=account, expires_at=after.expires_at.isoformat())
    if not mailboxes.ring().ids:
        log.warning("mailbox.tokens_in_clear", account=account, why="HARELINE_KEYS is not set")
    return after


def _lost(mailbox: Mailbox, why: str) -> None:
    """Mark a mailbox as disconnected, and tell its owner, once.

    Raises ``Snooze`` when it has other tokens by now than those that were refused: it was connected again.
    """
    owner = inbox.account(mailbox.user)
    with together() as connection:
        now = mailboxes.read(connection, mailbox.account, lock=True)
        if now is not None and now.tokens not in (None, mailbox.tokens):
            raise Snooze(SOON, f"{mailbox.account} was connected again")
        if mailboxes.lose(connection, mailbox.account, why):
            queue_notification(
                mailbox.user,
                f"{mailbox.account} cannot be read any more: access was withdrawn, or has expired. Connect it again.",
                title="Your mailbox is disconnected",
                type="error",
                channel="email" if owner is not None and owner.email is not None else "app",
                id=f"mailbox:{mailbox.account}:lost:{mailbox.connected_at.isoformat()}",
            )
    stop(mailbox.account)
    log.warning("mailbox.lost", account=mailbox.account, why=why)
