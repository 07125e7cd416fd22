"""Queue ``email-sync``: mailboxes at Gmail, read mail by mail.

sync_gmail ──────────────┬──► process_email       for every mail that is not kept yet
sync_gmail_incremental ──┘
    └── a history that Gmail has forgotten ──► sync_gmail
    └── an access token that ends soon ──► refresh_token
whichever finds that access was withdrawn ──► send_notification

``actors/connections.py`` connects a mailbox.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import cast

import dramatiq
import structlog
from sqlalchemy import Connection

from actors import letters, mailboxes
from actors.access import asked, fresh
from actors.events import Name
from actors.gmail import CIRCUIT, Listed, Missing, StalePage, gmail
from actors.mailbox_schedule import stop
from actors.mailboxes import Mailbox, together
from actors.notifications import queue_notification
from actors.priorities import Priority
from broker import Broker
from middleware.current import current_job_or_none
from middleware.rates import Rate
from middleware.unique import Unique
from settings import load

#: Tokens last an hour: one that ends before the third look from now is refreshed beside the work, and not in its midst.
AHEAD = timedelta(minutes=15)

log = structlog.get_logger(__name__)


@dramatiq.actor(
    queue_name="email-sync",
    priority=Priority.NORMAL,
    max_retries=9,
    max_backoff=600_000,
    time_limit=3_600_000,
    circuit=CIRCUIT,
    unique=Unique(by=["account"]),
    rate_limit=Rate(1, key="account", burst=5),
)
def sync_gmail(account: Name, cursor: str | None = None) -> None:
    """Read a mailbox as a whole: five hundred mails a page, and a job for each that is not kept; progress is reported.

    The jobs of a page and the place of the next one commit together, so an attempt begins where the last one ended, and
    whatever is killed, nothing is sent twice.  What comes meanwhile is found by the next look at the history, which
    begins where the history was before the first page.

    Idempotent: mails that are kept, or have a job that has not ended, are not sent again.

    Parameters:
      cursor: the token of a page to begin at, instead of the one that is stored; its next attempt goes on behind it.
    """
    mailbox = _connected(account)
    if mailbox is None:
        return
    job = current_job_or_none()
    if mailbox.full_from is None:
        since, page, listed = asked(account, gmail().profile).history_id, cursor, 0
    else:
        since, page, listed = mailbox.full_from, mailbox.page, mailbox.listed
        if cursor is not None and (job is None or job.state != cursor):  # else an attempt has begun there, and got on
            page = cursor
    if (since, page) != (mailbox.full_from, mailbox.page):
        with together() as connection:
            mailboxes.change(connection, account, full_from=since, page=page, listed=listed)
    if job is not None and cursor is not None:
        job.checkpoint(cursor)
    while True:
        if job is not None:
            job.check()
            job.progress(listed, note="mails listed")
        try:
            found = asked(account, lambda token, at=page: gmail().messages(token, at))  # type: ignore[misc]
        except StalePage:
            log.info("mailbox.page_forgotten", account=account)
            page, listed = None, 0
            continue
        page, listed = found.next_page_token, listed + len(found.messages)
        with together() as connection:
            _fan_out(connection, account, found.messages)
            if page is None:
                _read_whole(connection, account, since, listed)
            else:
                mailboxes.change(connection, account, page=page, listed=listed)
        if page is None:
            return


@dramatiq.actor(
    queue_name="email-sync",
    priority=Priority.NORMAL,
    max_retries=5,
    max_backoff=300_000,
    circuit=CIRCUIT,
    unique=Unique(by=["account"]),
    rate_limit=Rate(1, key="account", burst=5),
)
def sync_gmail_incremental(account: Name) -> None:
    """Look at what came to a mailbox since the last look, and send a job for each mail that is not kept.

    Every mailbox that is connected has a schedule for it, ``mailbox:ADDRESS``, every five minutes.
    A mailbox that was never read as a whole, or whose history Gmail has forgotten since (it keeps about a week), is
    read as a whole.  Mails in the spam or the trash are left out, as they are there.

    Idempotent: how far the history was seen commits with the jobs of what was in it.
    """
    if load().google_client_id is None:
        log.info("mailbox.skipped", account=account, why="HARELINE_GOOGLE_CLIENT_ID is not set")
        return
    mailbox = _connected(account)
    if mailbox is None:
        return
    if mailbox.history_id is None:
        sync_gmail.send(account)
        return
    since, page = mailbox.history_id, None
    while True:
        try:
            found = asked(account, lambda token, a=since, at=page: gmail().history(token, a, at))  # type: ignore[misc]
        except StalePage:
            page = None
            continue
        except Missing:
            log.info("mailbox.history_forgotten", account=account, since=since)
            with together() as connection:
                mailboxes.change(connection, account, history_id=None)
                sync_gmail.send(account)
            return
        page = found.next_page_token
        # Of a page that is not the last, its last change is how far the history was seen.
        seen = found.history_id if page is None else found.history[-1].id if found.history else since
        with together() as connection:
            _fan_out(connection, account, [letter for letter in found.added if not letter.unwanted])
            mailboxes.saw(connection, account, seen)
        if page is None:
            break
    if mailbox.tokens is not None and mailbox.tokens.expires_at - mailbox.at < AHEAD:
        refresh_token.send(account)


@dramatiq.actor(
    queue_name="email-sync",
    priority=Priority.LOW,
    max_retries=9,
    max_backoff=600_000,
    time_limit=300_000,
    circuit=CIRCUIT,
    unique=Unique(by=["account", "message_id"]),
    # Gmail allows 250 units a second for each account, and a mail is 5: a fifth is left for lists, and for others.
    rate_limit=Rate(40, key="account", burst=40),
)
def process_email(account: Name, message_id: Name) -> None:
    """Fetch a mail, take it apart, and keep what it says; of its attachments, what they are called.

    A mail is hostile text: whatever is in it, it is kept, with what could not be read named among its problems.

    Idempotent: a mail that is kept is not fetched again.  One that was deleted meanwhile is nobody's concern.
    """
    if _connected(account) is None:
        return
    if letters.is_kept(account, message_id):
        log.info("letter.known", account=account, id=message_id)
        return
    try:
        letter = asked(account, lambda token: gmail().letter(token, message_id))
    except Missing:
        log.info("letter.deleted", account=account, id=message_id)
        return
    letters.keep(account, letter)


@dramatiq.actor(
    queue_name="email-sync",
    priority=Priority.HIGH,
    max_retries=9,
    max_backoff=300_000,
    circuit=CIRCUIT,
    unique=Unique(by=["account"]),
)
def refresh_token(account: Name) -> None:
    """Get another access token ahead of the end of the one that is there; jobs that meet an old one do so themselves.

    One job at a time does it.  A grant that was withdrawn is no reason to try again: the mailbox is marked as
    disconnected, its schedule ends, and its owner is told.

    Idempotent: a token that lasts a quarter of an hour is kept.
    """
    if _connected(account) is not None:
        fresh(account, margin=AHEAD)


def _connected(account: str) -> Mailbox | None:
    """The mailbox, or None when it is not connected any more; then what is asked of it does not matter any more."""
    mailbox = mailboxes.find(account)
    if mailbox is not None and mailbox.tokens is not None:
        return mailbox
    stop(account)
    log.info("mailbox.not_connected", account=account)
    return None


def _fan_out(connection: Connection, account: str, found: Sequence[Listed]) -> None:
    """A job for each mail that is not kept; they commit with the connection's transaction."""
    ids = dict.fromkeys(item.id for item in found)
    known = letters.known(connection, account, ids.keys())
    broker = cast(Broker, dramatiq.get_broker())
    broker.enqueue_many(process_email.message(account, id) for id in ids if id not in known)


def _read_whole(connection: Connection, account: str, since: str, listed: int) -> None:
    """Note that all pages were read, and tell the owner."""
    mailboxes.change(connection, account, full_from=None, page=None, listed=listed)
    mailboxes.saw(connection, account, since)
    mailbox = mailboxes.read(connection, account)
    if mailbox is not None:
        queue_notification(
            mailbox.user,
            f"{account} was read: {listed} mails.",
            title="Your mailbox is here",
            type="sync-complete",
            id=f"mailbox:{account}:read:{mailbox.connected_at.isoformat()}",
        )
