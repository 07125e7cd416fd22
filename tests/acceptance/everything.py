"""Every job of the catalogue, twice, on a worker of this process; prints what the tables held after each round.

python -m tests.acceptance.everything WEBHOOK REFRESH_TOKEN
"""

import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dramatiq
from sqlalchemy import select

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
from actors.inbox import Account, Deadline, Notification
from actors.llm import Message, Question, llm_request
from actors.maintenance import cleanup_audit_log
from actors.notifications import deadline_reminder, send_notification
from actors.store import store
from actors.tables import metadata, notifications
from actors.tools import ToolCall, execute_tool
from actors.usage import track_llm_usage
from actors.vectors import Entity, remember
from actors.webhooks import WebhookEvent, deliver_webhook
from actors.workflows import run_workflow
from ledger.states import LIVE

PATIENCE_S = 100.0


def main(hook: str, token: str) -> None:
    store()
    now = datetime.now(UTC)
    month = (now.replace(day=1) - timedelta(days=1)).replace(day=15)
    prepare(now, hook)
    mailbox = connect("ada", Grant.parse({"refresh_token": token}))
    worker = dramatiq.Worker(broker, worker_timeout=50)
    worker.start()
    snapshots = []
    for _ in range(2):
        track_llm_usage.send(usage(month))
        deploy_multicall3.send()  # makes a block, which is then looked at
        settled()
        send_all(now, month, hook, mailbox)
        settled()
        snapshots.append(tables())
    worker.stop()
    jobs: dict[str, dict[str, int]] = {}
    why = []
    for row in broker.queries.jobs(limit=500):
        states = jobs.setdefault(row.actor, {})
        states[row.state] = states.get(row.state, 0) + 1
        if row.state == "failed":
            view = broker.queries.job(row.id)
            why.append(f"{row.actor}: {view.attempts[-1].error_message if view and view.attempts else row}")
    broker.close()
    print(json.dumps({"snapshots": snapshots, "jobs": jobs, "why": why}))


def prepare(now: datetime, hook: str) -> None:
    inbox.register(Account(user="ada", email="ada@example.org", webhook_url=f"{hook}/ada", digest=True))
    inbox.set_deadline(Deadline(id="d1", user="ada", title="Taxes", due_at=now))
    for id in ("1", "2", "3", "4"):
        remember(Entity(user="ada", type="person", id=id), {"name": f"person {id}"})
    told = Notification(id="yesterday", user="ada", message="It rained").model_dump()
    midday = (now - timedelta(days=1)).replace(hour=12)
    with database().write() as connection:
        add(connection, notifications, told | {"created_at": midday, "delivered_at": midday})


def usage(at: datetime) -> dict[str, Any]:
    names = {"request_id": "r1", "customer": "northwind", "user": "ada", "provider": "openai", "model": "gpt-4o"}
    return {**names, "input_tokens": 1000, "output_tokens": 100, "latency_ms": 1, "at": at.isoformat()}


def send_all(now: datetime, month: datetime, hook: str, mailbox: str) -> None:
    update_billing.send("northwind", f"{month:%Y-%m}")
    close_billing_period.send("northwind", f"{month:%Y-%m}")
    generate_embedding.send(Entity(user="ada", type="person", id="1"), "create")
    bulk_embed.send("ada", "person", ["2", "3", "4"])
    delete_embedding.send(Entity(user="ada", type="person", id="gone"))
    cleanup_embeddings.send()
    for channel in ("app", "log", "email", "webhook", "slack"):
        send_notification.send(Notification(id=f"n-{channel}", user="ada", message="Hello", channel=channel))
    deadline_reminder.send("d1", 0)
    send_email.send(Mail(id="m1", to="bob@example.org", subject="Hello", text="Bob"))
    daily_digest.send("ada", now.date().isoformat())
    deliver_webhook.send(f"{hook}/direct", WebhookEvent(id="e1", type="test", at=month, data={"n": 1}))
    asked = [Message(role="user", content="Hello")]
    llm_request.send(Question(request_id="q1", model="gpt-4o", messages=asked, user="ada", customer="northwind"))
    execute_tool.send(ToolCall(id="c1", tool="calculate", arguments={"expression": "6 * 7"}))
    run_workflow.send("user_onboarding", {"account": {"user": "bob"}}, "bob")
    process_data.send("set", "rows.csv")
    warmup_cache.send()
    sync_gmail.send(mailbox)
    sync_gmail_incremental.send(mailbox)
    process_email.send(mailbox, "m1")
    refresh_token.send(mailbox)
    watch_chain.send()
    cleanup_audit_log.send(0)


def settled() -> None:
    """Wait until no job is left.  The ledger has no signal for it."""
    deadline = time.monotonic() + PATIENCE_S
    while live := {q: s for q, states in broker.queries.counts().items() if (s := _live(states))}:
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {PATIENCE_S} s: {live}")
        time.sleep(0.05)


def _live(states: Any) -> dict[str, int]:
    return {str(state): count for state, count in states.items() if state in LIVE and count}


def tables() -> dict[str, Sequence[Any]]:
    with database().read() as connection:
        return {
            name: [
                [str(value) for value in row] for row in connection.execute(select(table).order_by(*table.primary_key))
            ]
            for name, table in metadata.tables.items()
        }


if __name__ == "__main__":
    main(*sys.argv[1:])
