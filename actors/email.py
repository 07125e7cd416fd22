"""Queue ``email``: mails, and every morning one of what happened the day before.

daily_digest ──► daily_digest(user) ──► send_email
"""

import json
from datetime import UTC, datetime, time, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from hashlib import sha256
from html import escape
from itertools import accumulate
from string import Template
from typing import Annotated
from unicodedata import category

import dramatiq
import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import select

from actors import inbox
from actors.database import add, database
from actors.events import Id, Name
from actors.outside import Unavailable, needed
from actors.per_process import per_process
from actors.priorities import Priority
from actors.smtp import MailServer
from actors.tables import mails
from middleware.circuit import Circuit
from middleware.unique import Unique
from settings import load

#: When a day's digest is due, by the clock of the account.
DIGEST_AT = time(9)
ONCE = Unique(by=["user", "on"], within=timedelta(days=1))
#: A digest's longest line, and its bytes as a message has them, which are not to be more than that may have.
LONGEST_LINE = 200
MOST_BYTES = 50_000
#: Characters after which a header would end, or who shows it would begin another line.
BREAKS = ("Cc", "Zl", "Zp")

HTML = Template(
    '<!doctype html><html><body style="font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 2em auto">'
    '<h1 style="font-size: 1.25em">$subject</h1>$paragraphs</body></html>'
)

log = structlog.get_logger(__name__)


def one_line(text: str, most: int) -> str:
    """As much of a text as fits into a line."""
    line = "".join(" " if category(c) in BREAKS else c for c in text).strip()
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _has_no_break(text: str) -> str:
    if any(category(c) in BREAKS for c in text):
        raise ValueError("one line, without control characters")
    return text


class Mail(BaseModel):
    """One mail to one person; its HTML is made of its text if none is given."""

    model_config = ConfigDict(frozen=True)

    id: Id  #: names it for ever: the second one of an id is not sent
    to: Annotated[str, Field(pattern=r"^[^\s<>@,]+@[^\s<>@,]+$")]
    subject: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_has_no_break)]
    text: Annotated[str, Field(min_length=1)]
    html: str | None = None


@dramatiq.actor(
    queue_name="email",
    priority=Priority.NORMAL,
    max_retries=9,
    max_backoff=600_000,
    time_limit=120_000,
    circuit=Circuit("smtp", counts=Unavailable),
    unique=Unique(by=["mail.id"]),
)
def send_email(mail: Mail) -> None:
    """Hand a mail to the server; ten attempts, over about half an hour.

    Idempotent: a mail has one job at a time, and one that the server has taken is not sent again.  A worker that dies
    between its answer and the commit sends it twice, with the same Message-ID, by which mail servers and readers drop
    the second.
    """
    if was_sent(mail.id):
        log.info("mail.known", id=mail.id)
        return
    settings = load()
    sender = needed(settings.mail_from, "mail_from", "no mail can be sent")
    needed(_server(), "smtp_url", "no mail can be sent").send(written(mail, sender))
    with database().write() as connection:
        add(connection, mails, {"id": mail.id, "sent_at": database().time(connection)})


@dramatiq.actor(queue_name="email", priority=Priority.LOW, atomic_sends=True)
def daily_digest(user: Name | None = None, on: str | None = None) -> None:
    """Mail a user the notifications of the day before, at nine by their clock; without one, to all whose day has begun.

    Idempotent: a mail's id follows from the user and the day, however often a day is looked at.  Of itself it looks
    once, also when there was nothing to tell, or the mail has become a dead letter.

    Parameters:
      on: the day, as ``2026-11-22``; today by the user's clock, if none is given.
    """
    if user is None:
        for reader in inbox.digested():
            here = datetime.now(UTC).astimezone(reader.zone)
            if here.time() >= DIGEST_AT:
                daily_digest.send_with_options(args=(reader.user, here.date().isoformat()), unique=ONCE)
        return
    account = inbox.account(user)
    if account is None or not account.digest or account.email is None:
        log.info("digest.unwanted", user=user)
        return
    day = datetime.fromisoformat(on).date() if on else datetime.now(UTC).astimezone(account.zone).date()
    end = datetime.combine(day, time(), account.zone)
    start = datetime.combine(day - timedelta(days=1), time(), account.zone)
    told = inbox.between(user, start.astimezone(UTC), end.astimezone(UTC))
    if not told:
        log.info("digest.empty", user=user, on=day.isoformat())
        return
    subject = f"{len(told)} notification{'s' if len(told) > 1 else ''} of {start:%A, %-d %B}"
    lines = [
        f"{at.astimezone(account.zone):%H:%M}  {one_line(item.title or item.message, LONGEST_LINE)}"
        for at, item in told
    ]
    id = digest_id(user, day.isoformat())
    send_email.send(Mail(id=id, to=account.email, subject=subject, text="\n".join(_fitting(lines))))


def _fitting(lines: list[str]) -> list[str]:
    """As many of the lines as a message may have, and how many they are not."""
    sizes = accumulate(len(json.dumps(line)) for line in lines)
    most = sum(size <= MOST_BYTES for size in sizes)
    return lines if most == len(lines) else [*lines[:most], f"and {len(lines) - most} more"]


def digest_id(user: str, day: str) -> str:
    """The id of the mail with a user's digest of the day before."""
    return f"digest:{user}:{day}"


def was_sent(id: str) -> bool:
    """Whether the server has taken the mail of this id."""
    with database().read() as connection:
        return connection.scalar(select(mails.c.id).where(mails.c.id == id)) is not None


def written(mail: Mail, sender: str) -> EmailMessage:
    """The mail, as text and as HTML, with a Message-ID that follows from its id."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = mail.to
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{sha256(mail.id.encode()).hexdigest()[:40]}@{Address(addr_spec=sender).domain}>"
    message.set_content(mail.text)
    message.add_alternative(mail.html or as_html(mail), subtype="html")
    return message


def as_html(mail: Mail) -> str:
    """Its text as a page: what it says cannot be markup."""
    paragraphs = "".join(
        f"<p>{escape(part).replace(chr(10), '<br>')}</p>" for part in mail.text.split("\n\n") if part.strip()
    )
    return HTML.substitute(subject=escape(mail.subject), paragraphs=paragraphs)


@per_process
def _server() -> MailServer | None:
    settings = load()
    if settings.smtp_url is None:
        return None
    return MailServer(settings.smtp_url, timeout_s=settings.http_timeout_s, ca_file=settings.smtp_ca_file)
