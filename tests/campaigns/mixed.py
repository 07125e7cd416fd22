"""Jobs of every type of the catalogue, in a mixture, sent by a process of its own.

python -m tests.campaigns.mixed HOOK FILES TOKEN

HOOK is where webhooks go, FILES where data files are, TOKEN opens the mailbox.  Waits for a line when everything is
prepared; prints how many jobs of each actor were sent.
"""

import json
import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from dramatiq import Actor

from actors import broker, inbox
from actors.billing import close_billing_period, update_billing
from actors.cache import warmup_cache
from actors.chain import deploy_multicall3, watch_chain
from actors.connections import Grant, connect
from actors.data import process_data
from actors.database import add, database
from actors.email import Mail, daily_digest, send_email
from actors.email_sync import process_email, refresh_token, sync_gmail, sync_gmail_incremental
from actors.embeddings import bulk_embed, cleanup_embeddings, delete_embedding, generate_embedding
from actors.inbox import Account, Channel, Deadline, Notification
from actors.llm import Message, Question, llm_request
from actors.maintenance import cleanup_audit_log
from actors.notifications import deadline_reminder, send_notification
from actors.tables import notifications
from actors.tools import ToolCall, execute_tool
from actors.usage import track_llm_usage
from actors.vectors import Entity, remember
from actors.webhooks import WebhookEvent, deliver_webhook
from actors.workflows import run_workflow

NOW = datetime.now(UTC)
MONTH = (NOW.replace(day=1) - timedelta(days=1)).replace(day=15)
USERS = 50
MAILS = 200
LOT = 500
CHANNELS: tuple[Channel, ...] = ("app", "app", "log", "email", "webhook", "slack")


class Kind(NamedTuple):
    """A type of job: how many of it, and the arguments of each."""

    actor: Actor[Any, Any]
    number: int
    arguments: Callable[[int], tuple[Any, ...]]


def kinds(hook: str, files: str, mailbox: str) -> tuple[Kind, ...]:
    """The mixture: with what they send, some ten thousand jobs.  A new type of job is a row here."""
    return (
        Kind(track_llm_usage, 1_500, lambda n: (usage(n),)),
        Kind(update_billing, 150, lambda n: (f"customer-{n % USERS}", f"{MONTH:%Y-%m}")),
        Kind(close_billing_period, 50, lambda n: (f"customer-{n}", "2020-01")),
        Kind(generate_embedding, 600, lambda n: (person(n), "create")),
        Kind(bulk_embed, 20, lambda n: ("crowd", "person", [str(n * 10 + i) for i in range(10)])),
        Kind(delete_embedding, 200, lambda n: (Entity(user="nobody", type="person", id=str(n)),)),
        Kind(cleanup_embeddings, 2, lambda n: ()),
        Kind(send_notification, 1_000, lambda n: (told(n),)),
        Kind(deadline_reminder, 100, lambda n: (f"deadline-{n}", 0)),
        Kind(send_email, 300, lambda n: (Mail(id=f"m{n}", to=f"{n}@example.org", subject="Hello", text=f"{n}"),)),
        Kind(daily_digest, USERS, lambda n: (f"user-{n}", NOW.date().isoformat())),
        Kind(deliver_webhook, 800, lambda n: (f"{hook}/{path(n)}", event(n))),
        Kind(llm_request, 200, lambda n: (question(n),)),
        Kind(
            execute_tool, 800, lambda n: (ToolCall(id=f"c{n}", tool="calculate", arguments={"expression": f"{n}*7"}),)
        ),
        Kind(run_workflow, 50, lambda n: ("user_onboarding", {"account": {"user": f"new-{n}"}}, f"new-{n}")),
        Kind(process_data, 60, lambda n: (f"set-{n}", "rows.csv" if n % 3 else f"{files}/rows.parquet")),
        Kind(warmup_cache, 30, lambda n: ()),
        Kind(sync_gmail, 3, lambda n: (mailbox,)),
        Kind(sync_gmail_incremental, 3, lambda n: (mailbox,)),
        Kind(process_email, MAILS, lambda n: (mailbox, f"m{n}")),
        Kind(refresh_token, 3, lambda n: (mailbox,)),
        Kind(watch_chain, 10, lambda n: ()),
        Kind(deploy_multicall3, 2, lambda n: ()),
        Kind(cleanup_audit_log, 2, lambda n: (30,)),
    )


def main(hook: str, files: str, token: str) -> None:
    prepare(hook)
    sent = {}
    messages = []
    for kind in kinds(hook, files, connect("ada", Grant.parse({"refresh_token": token}))):
        sent[kind.actor.actor_name] = kind.number
        messages += [kind.actor.message(*kind.arguments(n)) for n in range(kind.number)]
    random.Random(1).shuffle(messages)
    print("prepared", flush=True)
    sys.stdin.readline()
    for start in range(0, len(messages), LOT):
        broker.enqueue_many(messages[start : start + LOT])
    broker.close()
    print(json.dumps(sent))


def prepare(hook: str) -> None:
    midday = (NOW - timedelta(days=1)).replace(hour=12)
    for n in range(USERS):
        user = f"user-{n}"
        inbox.register(Account(user=user, email=f"{user}@example.org", webhook_url=f"{hook}/{user}", digest=True))
        yesterday = Notification(id=f"yesterday-{n}", user=user, message="It rained").model_dump()
        with database().write() as connection:
            add(connection, notifications, yesterday | {"created_at": midday, "delivered_at": midday})
    for n in range(100):
        inbox.set_deadline(Deadline(id=f"deadline-{n}", user=f"user-{n % USERS}", title="Taxes", due_at=NOW))
    for n in range(600):
        remember(person(n), {"name": f"poisoned {n}" if n == 1 else f"person {n}"})
    for n in range(200):
        remember(Entity(user="crowd", type="person", id=str(n)), {"name": f"one of many, {n}"})


def usage(n: int) -> dict[str, Any]:
    names = {"request_id": f"r{n}", "customer": f"customer-{n % USERS}", "provider": "openai", "model": "gpt-4o"}
    user = "refused" if n in (0, 1) else f"user-{n % USERS}"
    counts = {"input_tokens": 1_000 + n, "output_tokens": 100, "latency_ms": 1}
    return {**names, **counts, "user": user, "at": MONTH.isoformat()}


def person(n: int) -> Entity:
    return Entity(user=f"user-{n % USERS}", type="person", id=str(n))


def told(n: int) -> Notification:
    return Notification(id=f"n{n}", user=f"user-{n % USERS}", message=f"News {n}", channel=CHANNELS[n % len(CHANNELS)])


def path(n: int) -> str:
    return "gone" if n in (0, 1) else f"customer-{n % USERS}"


def event(n: int) -> WebhookEvent:
    return WebhookEvent(id=f"e{n}", type="test", at=MONTH, data={"n": n})


def question(n: int) -> Question:
    model = "no-such-model" if n == 1 else "gpt-4o"
    asked = [Message(role="user", content=f"What is {n}?")]
    return Question(request_id=f"q{n}", model=model, messages=asked, user="ada", customer="customer-0")


if __name__ == "__main__":
    main(*sys.argv[1:])
