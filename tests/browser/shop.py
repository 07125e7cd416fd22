"""A shop's actors, of which some fail: what the console is shown with; ``dramatiq tests.browser.shop`` runs them."""

import logging
import os
import random
import time
from types import SimpleNamespace
from typing import Any

import dramatiq

import logs
from broker import build
from errors import Failure
from ledger.schedules import every
from middleware.circuit import Circuit
from middleware.current import current_job
from middleware.rates import Rate
from middleware.workflow import Results, step, wait, workflow
from settings import load

settings = load()
logs.configure(settings)
logging.getLogger("dramatiq").setLevel(logging.INFO)  # it says when a worker is ready
QUEUES = {
    name: SimpleNamespace(concurrency=slots, keep=None, rate=None, max_running=None, max_waiting=None)
    for name, slots in {"billing": 4, "mail": 6, "media": 2, "reports": 1}.items()
}
broker = build(settings, queues=QUEUES)
dramatiq.set_broker(broker)


MAIL_SERVER = Circuit("mail-server", failures=1.0, of=1_000)  # it is shown, and never opens


class CardDeclined(Exception):
    pass


@dramatiq.actor(queue_name="billing", max_retries=2, min_backoff=40, store_results=True)
def charge(customer: str, cents: int, card: dict[str, str] | None = None) -> dict[str, Any]:
    time.sleep(0.002)
    if cents % 7 == 0:
        raise CardDeclined(f"card of customer {customer} was declined: insufficient funds for {cents} cents")
    return {"receipt": f"R-{cents}", "customer": customer, "paid": True}


@dramatiq.actor(queue_name="mail", max_retries=1, min_backoff=40, rate_limit=Rate(500), circuit=MAIL_SERVER)
def send_receipt(to: str, order: int) -> None:
    time.sleep(0.001)
    if order % 9 == 0:
        raise TimeoutError(f"mail.example.com:25 did not answer within {order % 30} s")


@dramatiq.actor(queue_name="media", max_retries=0)
def resize(path: str, width: int) -> None:
    time.sleep(0.004)
    if width > 4000:
        raise ValueError(f"width {width} is above 4000")


@dramatiq.actor(queue_name="reports", store_results=True)
def monthly_report(month: str, pages: int = 4) -> str:
    job = current_job()
    for page in range(pages):
        job.progress(page, pages, f"page {page + 1}")
        time.sleep(0.01)
    return f"report-{month}.pdf"


@dramatiq.actor(queue_name="reports", time_limit=float("inf"))
def long_export(table: str, rows: int, seconds: float) -> None:
    """Runs for a while, and says how far it is."""
    job = current_job()
    for part in range(100):
        job.progress(part * rows // 100, rows, f"exporting {table}")
        time.sleep(seconds / 100)


@dramatiq.actor(queue_name="mail", max_retries=0)
def refuse(text: str) -> None:
    raise Failure(text)


@dramatiq.actor(queue_name="billing", max_retries=2, min_backoff=10)
def fail_for_good(line: str, mended: str = "") -> None:
    """Fails until the file ``mended`` exists."""
    job = current_job()
    try:
        open(mended).close()
    except OSError:
        raise RuntimeError(f"no luck with {line}, attempt {job.attempt}") from None


@dramatiq.actor(queue_name="billing", max_retries=0)
def settle_account(account: int, mended: str) -> None:
    """Fails at once until the file ``mended`` exists."""
    if not os.path.exists(mended):
        raise ConnectionError("the bank does not answer")


@every("1h", key="tidy-up")
@dramatiq.actor(queue_name="reports")
def tidy_up() -> None:
    pass


@dramatiq.actor(queue_name="billing")
def reserve(order: int) -> str:
    return f"shelf-{order}"


@dramatiq.actor(queue_name="billing")
def settle(order: int) -> str:
    return f"payment-{order}"


@dramatiq.actor(queue_name="media")
def items(order: int) -> list[int]:
    return list(range(5))


@dramatiq.actor(queue_name="media")
def pack(item: int) -> int:
    time.sleep(random.uniform(0.001, 0.005))
    return item


@dramatiq.actor(queue_name="mail", max_retries=0)
def ship(pack: Results, settle: str, reserve: str) -> str:
    if settle.endswith("3"):
        raise RuntimeError("no van")
    return f"{len(pack)} parcels from {reserve}"


@dramatiq.actor(queue_name="mail")
def thank(ship: str) -> None:
    pass


order = (
    workflow("order")
    .then(reserve, settle, items)
    .then(step(pack, each="items", after="items"))
    .then(ship)
    .then(wait("delivered", timeout="7d"))
    .then(thank)
)
