"""Queue ``notifications``: telling people things, where they want to hear them.

send_notification ──┬──► deliver_webhook      channel "webhook": the account's address
                    ├──► send_email           channel "email": the account's mailbox
                    └── or the inbox ("app"), the log ("log"), Slack ("slack") itself
deadline_reminder ──► send_notification
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast
from uuid import uuid4

import dramatiq
import structlog
from pydantic import Field

from actors import inbox
from actors.email import Mail, one_line, send_email
from actors.events import Name
from actors.inbox import Channel, Kind, Notification
from actors.outside import Service, Unavailable, needed
from actors.per_process import per_process
from actors.priorities import Priority
from actors.webhooks import WebhookEvent, deliver_webhook
from errors import Failure, Snooze
from middleware.circuit import Circuit
from middleware.handles import Sent
from middleware.unique import Unique
from settings import load

Minutes = Annotated[int, Field(ge=0, le=525_600)]

log = structlog.get_logger(__name__)


class NoAddress(Failure):
    """Raised when a user cannot be told by the channel that was asked for."""

    def __init__(self, user: str, what: str) -> None:
        super().__init__(f"user {user!r} has no {what}: register() one, and retry this job", code="no_address")


@dramatiq.actor(
    queue_name="notifications",
    priority=Priority.NORMAL,
    max_retries=7,
    max_backoff=300_000,
    circuit=Circuit("slack", counts=Unavailable),
    atomic_sends=True,
)
def send_notification(notification: Notification) -> None:
    """Keep a notification in the user's inbox, and pass it on by its channel.

    Idempotent: the first one of an id is kept, and one that was delivered is not passed on again.  E-mail and webhook
    are jobs that commit with this one, and idempotent themselves.  Slack takes no key: a worker that dies between its
    answer and the commit posts twice.
    """
    at = inbox.record(notification)
    if at is None:
        log.info("notification.known", id=notification.id)
        return
    match notification.channel:
        case "email":
            to = _account(notification.user, "account with an e-mail address").email
            if to is None:
                raise NoAddress(notification.user, "e-mail address")
            send_email.send(
                Mail(id=notification.id, to=to, subject=subject_of(notification), text=notification.message)
            )
        case "webhook":
            url = _account(notification.user, "account with a webhook address").webhook_url
            if url is None:
                raise NoAddress(notification.user, "webhook address")
            data = notification.model_dump(mode="json", exclude={"channel"})
            event = WebhookEvent(id=notification.id, type=f"notification.{notification.type}", at=at, data=data)
            deliver_webhook.send(url, event)
        case "slack":
            slack().post("", {"text": f"*{subject_of(notification)}*\n{notification.message}"})
        case "log":
            log.info("notification", id=notification.id, user=notification.user, message=notification.message)
        case "app":
            pass  # the inbox is where it belongs
    inbox.delivered(notification.id)


@dramatiq.actor(
    queue_name="notifications",
    priority=Priority.HIGH,
    unique=Unique(by=["deadline_id", "minutes_before"], mode="replace"),
    atomic_sends=True,
)
def deadline_reminder(deadline_id: Name, minutes_before: Minutes = 0) -> None:
    """Remind a user of a deadline so many minutes before it; :func:`queue_reminder` sends it for the right moment.

    It goes by the deadline as it is then: one that was put off is waited for, one that was dropped is nobody's concern.

    Idempotent: the notification's id follows from the deadline, its time and the minutes.
    """
    deadline = inbox.deadline(deadline_id)
    if deadline is None:
        log.info("deadline.dropped", id=deadline_id)
        return
    at = deadline.due_at - timedelta(minutes=minutes_before)
    if (early := at - datetime.now(UTC)) > timedelta(seconds=1):
        raise Snooze(early, f"deadline {deadline_id!r} was put off to {deadline.due_at.isoformat()}")
    send_notification.send(
        Notification(
            id=f"deadline:{deadline_id}:{deadline.due_at.isoformat()}:{minutes_before}",
            user=deadline.user,
            type="deadline",
            title=deadline.title,
            message=f"{deadline.title} is due at {deadline.due_at:%Y-%m-%d %H:%M} UTC",
            data={"deadline": deadline_id},
        )
    )


def queue_notification(
    user: str,
    message: str,
    *,
    channel: Channel = "app",
    type: Kind = "reminder",
    title: str = "",
    data: Mapping[str, Any] | None = None,
    id: str | None = None,
    priority: Priority = Priority.NORMAL,
) -> Sent[None]:
    """Tell a user something.

    Parameters:
      data: for programs: it is kept with the notification, and is in its webhook.
      id: names the notification for ever: the second one of an id changes nothing.
    """
    id = id or str(uuid4())
    told = Notification(
        id=id, user=user, message=message, channel=channel, type=type, title=title, data=dict(data or {})
    )
    return cast("Sent[Any]", send_notification.send_with_options(args=(told,), priority=priority))


def queue_reminder(deadline_id: str, minutes_before: int = 0) -> Sent[None]:
    """Have a user reminded of a deadline, so many minutes before; asked again, the reminder moves to the new time.

    Raises ``ValueError`` for a deadline that is not there.
    """
    deadline = inbox.deadline(deadline_id)
    if deadline is None:
        raise ValueError(f"there is no deadline {deadline_id!r}; set_deadline() adds one")
    wait = deadline.due_at - timedelta(minutes=minutes_before) - datetime.now(UTC)
    delay_ms = max(0, int(wait.total_seconds() * 1000))
    return cast("Sent[Any]", deadline_reminder.send_with_options(args=(deadline_id, minutes_before), delay=delay_ms))


def subject_of(notification: Notification) -> str:
    """Its title, or the beginning of what it says."""
    said = notification.message.strip().partition("\n")[0]
    return one_line(notification.title, 200) or one_line(said, 80) or notification.type


def slack() -> Service:
    """This process's client of the Slack-compatible webhook.  Raises ``NotConfigured``."""
    return needed(_slack(), "slack_url", "nothing can be posted to Slack")


@per_process
def _slack() -> Service | None:
    settings = load()
    if settings.slack_url is None:
        return None
    url = settings.slack_url.get_secret_value()
    return Service(url, timeout_s=settings.http_timeout_s, check="HARELINE_SLACK_URL", name="Slack")


def _account(user: str, what: str) -> inbox.Account:
    account = inbox.account(user)
    if account is None:
        raise NoAddress(user, what)
    return account
