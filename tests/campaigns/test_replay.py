"""Ten thousand dead letters of a queue retried from the console, on RabbitMQ and PostgreSQL, by a person with a mouse.

The second time the console and every worker are killed in the middle.
"""

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from ledger.audit_queries import AuditQueries
from ledger.operations import OperationView
from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import System
from tests.browser import driving, seeding
from tests.browser.driving import Console, Window

pytestmark = pytest.mark.timeout(1800)

DEAD = 10_000
_RETRIED = "SELECT count(*) FROM journal WHERE event = 'retried'"


@pytest.fixture
def bank(unhurried: System, rabbit: Rabbit) -> tuple[System, Path]:
    """Ten thousand dead letters of the queue billing, and the file that mends what failed."""
    system, mended = unhurried, unhurried.folder / "mended"
    system.env["HARELINE_RECONCILE_S"] = "2"
    worker = system.worker(app="tests.browser.shop")
    many = f"[settle_account.message(n, {str(mended)!r}) for n in range({DEAD})]"
    seeding.send(system, f"from tests.browser.shop import *\nbroker.enqueue_many({many})")
    system.until(lambda: system.states() == {"failed": DEAD}, 400)
    system.until(lambda: rabbit.ready()["billing.XQ"] == DEAD, 200)
    assert worker.process.poll() is None
    mended.touch()
    return system, mended


def _begin(window: Window) -> Page:
    """From the queue's page, by what it offers; it says how many first."""
    page = window.go("/queues/billing")
    page.get_by_role("link", name="Retry dead letters").click()
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text(f"{DEAD:,} dead letters")
    dialog.locator("button.primary").click()
    page.wait_for_url("**/operations/*")
    return page


def _seen(page: Page) -> int:
    """How far the page says it is."""
    text = page.locator("section.card .push").inner_text()
    found = re.match(r"([\d,]+) of 10,000", text)
    assert found, text
    return int(found[1].replace(",", ""))


def _operation(system: System) -> OperationView:
    [found] = system.queries.operations()
    return found


def _agree(system: System, rabbit: Rabbit, page: Page) -> None:
    """The page, the ledger, RabbitMQ and the audit trail."""
    expect(page.locator(".head .state")).to_have_text("done", timeout=120_000)
    assert _seen(page) == DEAD
    ended = _operation(system)
    assert (ended.state, ended.done, ended.skipped, ended.failed) == ("done", DEAD, 0, 0)
    system.until(lambda: system.states() == {"completed": DEAD}, 400)
    once = f"SELECT job_id FROM ({_RETRIED.replace('count(*)', 'job_id')}) x GROUP BY job_id HAVING count(*) = 1"
    assert len(system.sql(once)) == DEAD
    assert system.sql(_RETRIED) == [(DEAD,)]
    assert system.sql("SELECT count(DISTINCT job_id) FROM attempts WHERE outcome = 'completed'") == [(DEAD,)]
    settled(system, rabbit, timeout_s=120)
    assert rabbit.ready()["billing.XQ"] == 0
    trail = AuditQueries(system.database_url)
    [begun] = trail.entries(operation="retry_queue", limit=1000)
    assert (begun.name, begun.via, begun.role, begun.count, begun.result) == ("local", "console", "admin", DEAD, "done")
    batches = trail.entries(operation="retry_job", limit=1000)
    assert {(batch.name, batch.via) for batch in batches} == {("local", "console")}
    assert sum(batch.count for batch in batches) == DEAD
    assert trail.verify().bad is None
    trail.close()


def test_the_page_tells_how_far_it_is_and_everything_agrees_at_the_end(
    chromium: Browser, bank: tuple[System, Path], rabbit: Rabbit
) -> None:
    system, _ = bank
    with Console(system).running() as console, driving.window(chromium, console) as window:
        began = time.monotonic()
        page = _begin(window)
        told = [_seen(page)]
        while told[-1] < DEAD and time.monotonic() - began < 300:
            page.wait_for_timeout(250)
            told.append(_seen(page))
        print(f"retried in {time.monotonic() - began:.1f} s; the page said {sorted(set(told))}")
        assert told == sorted(told)
        assert len(set(told)) >= 3
        _agree(system, rabbit, page)
        driving.shot(page, "operation-10000")
        assert window.troubles == []


def test_killed_in_the_middle_it_says_where_it_stopped_and_goes_on_from_there(
    chromium: Browser, bank: tuple[System, Path], rabbit: Rabbit
) -> None:
    system, _ = bank
    with Console(system).running() as console, driving.window(chromium, console) as window:
        page = _begin(window)
        system.until(lambda: _operation(system).done >= DEAD // 10)
        console.kill()
        for worker in system.workers:
            worker.kill()
        left = _operation(system)
        print(f"killed after {left.done:,}")
        assert left.state == "running"
        assert 0 < left.done < DEAD
        assert system.sql(_RETRIED) == [(left.done,)]
        expect(page.locator("[data-live]")).to_contain_text("disconnected", timeout=30_000)
        console.start()
        page = window.go(f"/operations/{left.id}")
        assert _seen(page) == left.done
        expect(page.locator(".head .state")).to_have_text("running")
        expect(page.get_by_text("Nothing moves")).to_be_visible(timeout=60_000)
        driving.shot(page, "operation-stopped")
        assert _operation(system).done == left.done
        system.worker(app="tests.browser.shop")
        _agree(system, rabbit, page)
