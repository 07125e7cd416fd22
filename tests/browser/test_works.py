"""What a person does with the console: watching, acting, without a mouse, without scripts."""

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.system import System
from tests.browser import driving, seeding
from tests.browser.driving import Console, Window
from tests.collect import eventually

pytestmark = pytest.mark.timeout(600)


def _nothing_is_awaited(page: Page) -> None:
    expect(page.locator("[data-live]")).to_have_attribute("data-state", re.compile("on|paused"), timeout=10_000)


def test_a_job_appears_runs_and_ends_before_the_readers_eyes(chromium: Browser, on_rabbitmq: System) -> None:
    """Check 2, on RabbitMQ and PostgreSQL."""
    on_rabbitmq.worker(app="tests.browser.shop")
    with Console(on_rabbitmq).running() as console, driving.window(chromium, console) as window:
        page = window.go("/jobs")
        _nothing_is_awaited(page)
        seeding.send(on_rabbitmq, "from tests.browser.shop import *\nlong_export.send('orders', 100, 2.0)")
        sent = time.monotonic()
        row = page.locator("tr[data-row]", has_text="long_export")
        expect(row).to_be_visible(timeout=8_000)
        seen = time.monotonic() - sent
        expect(row.locator(".state")).to_have_text("completed", timeout=12_000)
        assert seen < 3.0
        assert window.troubles == []


def test_failures_are_grouped_retried_and_the_last_traceback_is_shown(
    chromium: Browser, on_rabbitmq: System, tmp_path: Path
) -> None:
    """Check 3."""
    mended = tmp_path / "mended"
    on_rabbitmq.worker(app="tests.browser.shop")
    send = "".join(f"fail_for_good.send('line {n}', {str(mended)!r})\n" for n in range(3))
    seeding.send(on_rabbitmq, f"from tests.browser.shop import *\n{send}")
    on_rabbitmq.until(lambda: on_rabbitmq.states().get("failed") == 3, 60)
    with Console(on_rabbitmq).running() as console, driving.window(chromium, console) as window:
        page = window.go("/failures")
        row = page.locator("tr[data-row]", has_text="RuntimeError")
        expect(row.locator("td[data-label=Count]")).to_have_text("3", timeout=90_000)
        row.locator("a.name").click()
        page.locator("tr[data-row] a.name").first.click()
        attempts = page.locator(".attempt")
        expect(attempts).to_have_count(3)
        attempts.first.locator("summary").click()
        expect(attempts.first.locator("pre")).to_contain_text("attempt 3")
        mended.touch()
        page.go_back()
        page.get_by_role("link", name="Retry all").click()
        page.locator("dialog[open] button.primary").click()
        on_rabbitmq.until(lambda: on_rabbitmq.states().get("completed") == 3, 60)
        assert window.troubles == []


def test_ticked_rows_stay_ticked_while_the_page_would_refresh(window: Window, shop: System) -> None:
    """Check 5, the ticks."""
    page = window.go("/jobs?state=failed")
    boxes = page.locator("input[data-tick]")
    for number in range(3):
        boxes.nth(number).check()
    expect(page.locator("[data-bulk]")).to_be_visible()
    expect(page.locator("[data-ticked]")).to_have_text("3 jobs")
    expect(page.locator("[data-live]")).to_contain_text("paused", timeout=5_000)
    seeding.send(shop, "from tests.browser.shop import *\nfor n in range(3): reserve.send(n)")
    page.wait_for_timeout(5_000)  # two refreshes would have come
    assert [boxes.nth(number).is_checked() for number in range(4)] == [True, True, True, False]
    page.keyboard.press("Escape")
    expect(page.locator("[data-bulk]")).to_be_hidden()


def test_all_that_match_are_counted_before_and_dealt_with_unless_they_are_others_by_then(
    window: Window, shop: System
) -> None:
    """Check 5, everything that matches."""
    [(dead,)] = shop.sql("SELECT count(*) FROM jobs WHERE state = 'failed' AND queue = 'media'")
    page = window.go("/jobs?state=failed&queue=media")
    page.get_by_role("link", name="Act on all that match").click()
    page.wait_for_url("**/operations/new*")
    expect(page.locator("form.confirm h2")).to_contain_text(f"Retry {dead} jobs?")
    page.locator("[name=expected]").evaluate("(field) => (field.value = 40)")
    page.locator("form.confirm button.primary").click()
    expect(page.locator(".flash.error")).to_contain_text(f"40 jobs were expected, and {dead} fit now")
    page.locator("form.confirm button.primary").click()
    page.wait_for_url("**/operations/*-*")
    expect(page.locator("section.card .push")).to_have_text(f"{dead} of {dead}", timeout=30_000)
    shop.until(lambda: shop.sql("SELECT count(*) FROM jobs WHERE state = 'failed' AND queue = 'media'") == [(dead,)])


def test_new_jobs_wait_behind_a_button_while_the_reader_is_at_the_table(window: Window, shop: System) -> None:
    page = window.go("/jobs?queue=billing")
    page.get_by_role("link", name="Clear", exact=True).click()  # which swaps the page's middle, and the button with it
    page.wait_for_url("**/jobs")
    page.locator("tr[data-row]").nth(3).hover()
    first = page.locator("tr[data-row]").first.get_attribute("id")
    seeding.send(shop, "from tests.browser.shop import *\nreserve.send(77)")
    button = page.locator("[data-news] button")
    expect(button).to_contain_text("new job", timeout=10_000)
    assert page.locator("tr[data-row]").first.get_attribute("id") == first
    button.click()
    expect(page.locator("tr[data-row]").first).to_contain_text("reserve")


def test_a_tab_leads_to_its_list(window: Window) -> None:
    page = window.go("/jobs")
    expect(page.locator("#states .count").first).not_to_be_empty()
    page.get_by_role("link", name=re.compile("^Failed")).click()
    page.wait_for_url("**/jobs?state=failed")
    expect(page.locator("#states [aria-current]")).to_contain_text("Failed")
    expect(page.locator("#states")).to_have_count(1)
    expect(page.locator("tr[data-row] .state").first).to_have_text("failed")


def test_without_scripts_jobs_are_filtered_paged_and_retried(chromium: Browser, console: Console) -> None:
    """Check 8."""
    with driving.window(chromium, console, java_script_enabled=False) as window:
        page = window.page
        page.goto(f"{console.url}/jobs")
        page.get_by_label("Queue", exact=True).select_option("billing")
        page.get_by_label("Query").fill("state:failed")
        page.get_by_role("button", name="Filter").click()
        assert "queue=billing" in page.url
        expect(page.locator("tr[data-row]").first).to_contain_text("failed")
        page.locator("tr[data-row] a.name").first.click()
        page.get_by_role("button", name="Retry").click()
        expect(page.locator(".flash")).to_contain_text("waiting to run again")
        page.goto(f"{console.url}/jobs?state=delayed")
        page.locator("tr[data-row] a.name").first.click()
        page.get_by_role("link", name="Cancel").click()
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator(".flash")).to_contain_text("is cancelled")


def test_everything_can_be_reached_by_the_keyboard(window: Window) -> None:
    """Check 9."""
    page = window.go("/jobs?state=failed")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("/")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type("jjx?")
    assert page.locator("#find").input_value() == "jjx?"
    page.keyboard.press("Escape")
    page.locator("#find").fill("")
    page.keyboard.press("Escape")
    for key in "jjkj":
        page.keyboard.press(key)
    current = page.locator("tr[data-at]")
    expect(current).to_have_count(1)
    assert current.get_attribute("id") == page.locator("tr[data-row]").nth(1).get_attribute("id")
    page.keyboard.press("x")
    expect(page.locator("[data-ticked]")).to_have_text("1 job")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("[data-help]")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("[data-help]")).to_be_hidden()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f-]{36}$"))
    remove = page.get_by_role("link", name="Remove")
    remove.focus()
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open] [data-confirm]")).to_be_visible()
    page.keyboard.press("Escape")
    expect(remove).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("q")
    page.wait_for_url("**/queues")


def test_it_says_that_it_is_disconnected_and_recovers(chromium: Browser, shop: System) -> None:
    """Check 11."""
    with Console(shop).running() as console, driving.window(chromium, console) as window:
        page = window.go("/jobs")
        badge = page.locator("[data-live]")
        expect(badge).to_have_attribute("data-state", "on", timeout=10_000)
        console.stop()
        expect(badge).to_have_attribute("data-state", "lost", timeout=15_000)
        expect(badge).to_contain_text("disconnected")
        console.start()
        expect(badge).to_have_attribute("data-state", "on", timeout=60_000)


_COUNT_STREAMS = """
window.__streams = [];
const Real = EventSource;
window.EventSource = class extends Real { constructor(...given) { super(...given); __streams.push(this); } };
"""
_SHOW = """
(hidden) => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""


def test_a_tab_that_nobody_sees_closes_its_stream(window: Window) -> None:
    """Check 11."""
    window.page.add_init_script(_COUNT_STREAMS)
    page = window.go("/jobs")
    states = "__streams.map((one) => one.readyState)"
    closed, live = 2, 1
    eventually(lambda: page.evaluate(states) == [live], "the tab has its stream")
    page.evaluate(_SHOW, True)
    assert page.evaluate(states) == [closed]
    page.evaluate(_SHOW, False)
    eventually(lambda: page.evaluate(states) == [closed, live], "it has one again")


def test_eight_tabs_are_all_usable(chromium: Browser, console: Console) -> None:
    """Check 11: a browser has six connections for them."""
    with driving.window(chromium, console) as window:
        pages = [window.page, *(window.page.context.new_page() for _ in range(7))]
        for page in pages:
            page.bring_to_front()
            page.goto(f"{console.url}/queues")
            expect(page.locator("[data-live]")).to_be_visible()
        pages[0].bring_to_front()
        pages[0].goto(f"{console.url}/jobs")
        expect(pages[0].locator("tr[data-row]").first).to_be_visible()


def test_another_site_can_neither_send_forms_nor_frame_a_page(chromium: Browser, console: Console) -> None:
    """Check 7."""
    [job] = console.shop.sql("SELECT CAST(id AS TEXT) FROM jobs WHERE state = 'delayed' LIMIT 1")
    other = Console(console.shop)  # another port of this machine: another origin
    with driving.window(chromium, console) as window:
        page = window.page
        page.unroute_all()
        form = f"<form method=post action='{console.url}/jobs/{job[0]}/cancel'><button>x</button></form>"
        page.route(f"{other.origin}/**", lambda route: route.fulfill(body=form, content_type="text/html"))
        page.goto(other.origin)
        with page.expect_navigation() as went:
            page.get_by_role("button").click()
        answer = went.value
        assert answer is not None
        assert answer.status == 403
        frame = f"<iframe src='{console.url}/jobs'></iframe>"
        page.unroute_all()
        page.route(f"{other.origin}/**", lambda route: route.fulfill(body=frame, content_type="text/html"))
        page.goto(other.origin)
        assert page.frames[-1].url.startswith("chrome-error:")
    assert console.shop.sql(f"SELECT state FROM jobs WHERE id = '{job[0]}'") == [("delayed",)]
