"""Every page in both themes: whole, offline, inside its policy, readable by everyone, on a phone too."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.system import System
from tests.browser import driving
from tests.browser.driving import Console, Window

pytestmark = pytest.mark.timeout(900)


def _theme(window: Window, theme: str) -> None:
    window.page.context.add_cookies([{"name": "hareline_theme", "value": theme, "url": window.console.origin}])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_whole_and_asks_nobody_else(window: Window, shop: System, theme: str) -> None:
    """Checks 1 and 18: no request elsewhere, no error, nothing that its policy refuses; a screenshot of each."""
    _theme(window, theme)
    for name, path in driving.places(shop).items():
        page = window.go(path)
        page.wait_for_timeout(300)  # charts are drawn, counts arrive
        assert page.locator("h1").count() == 1, name
        driving.shot(page, f"{name}-{theme}")
        assert window.troubles == [], name


def test_no_page_scrolls_sideways_on_a_phone_or_at_twice_the_size(chromium: Browser, console: Console) -> None:
    """Check 10, the widths: 360 pixels, and 200 % on a screen of 1280."""
    for width in (360, 640):
        with driving.window(chromium, console, viewport={"width": width, "height": 740}) as window:
            for name, path in driving.places(console.shop).items():
                page = window.go(path)
                wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, f"{name} at {width}: {wide} pixels too wide: {_widest(page)}"
                if width == 360:
                    driving.shot(page, f"{name}-phone")


def _widest(page: Page) -> Any:
    return page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth)"
        ".slice(0, 5).map(e => e.outerHTML.slice(0, 120))"
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(window: Window, shop: System, theme: str) -> None:
    """Check 10."""
    _theme(window, theme)
    found: dict[str, list[str]] = {}
    for name, path in driving.places(shop).items():
        page = window.go(path)
        page.evaluate(driving.axe())
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        serious = [
            f"{one['id']}: {one['nodes'][0]['html'][:160]} {one['nodes'][0]['failureSummary'][:200]}"
            for one in result["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        if serious:
            found[name] = serious
    assert not found, json.dumps(found, indent=1)


def test_the_theme_is_in_the_page_as_it_comes_so_nothing_flashes(window: Window) -> None:
    """Check 14."""
    page = window.go("/jobs")
    page.locator("[data-menu] summary").click()
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    answer = page.reload()
    assert answer is not None
    assert 'data-theme="dark"' in answer.text()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_a_chart_draws_what_the_table_and_the_api_say(window: Window) -> None:
    """Check 15."""
    page = window.go("/queues/billing")
    cells = page.locator("#throughput td[data-v]")
    expect(cells.filter(has_text=re.compile("[1-9]")).first).to_be_attached(timeout=700_000)  # its first day is counted
    canvas = page.locator("[data-chart] canvas").first
    painted = canvas.evaluate(
        "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }"
    )
    assert painted > 500
    values = page.locator("#throughput td[data-v]").evaluate_all("cells => cells.map(c => Number(c.dataset.v))")
    completed = values[0::3]
    box = page.locator("[data-chart=throughput] .u-over").bounding_box()
    assert box is not None
    at = max(range(len(completed)), key=completed.__getitem__)
    page.mouse.move(box["x"] + box["width"] * at / (len(completed) - 1), box["y"] + 40)
    told = page.locator("figure:has(#throughput) [data-value]").first
    assert float(told.inner_text().replace(",", "")) == max(completed)


def test_times_are_utc_or_local_on_the_night_the_clocks_change(chromium: Browser, console: Console) -> None:
    """Check 17: 02:30 on the night of 25 October 2026 is there twice in Berlin."""
    with driving.window(chromium, console, timezone_id="Europe/Berlin") as window:
        page = window.go("/jobs")
        assert "UTC" in (page.locator("main time").first.get_attribute("title") or "")
        page.locator("[data-menu] summary").click()
        with page.expect_navigation():
            page.get_by_role("button", name="Local").click()
        title = page.locator("main time").first.get_attribute("title") or ""
        assert " CET ·" in title or " CEST ·" in title
        assert title.endswith("UTC")


def test_everything_works_below_a_prefix(chromium: Browser, shop: System) -> None:
    """Check 16."""
    below = Console(shop, HARELINE_CONSOLE_PREFIX="/ops")
    with below.running() as console, driving.window(chromium, console) as window:
        for path in driving.places(shop).values():
            window.go(path)
        page = window.go("/jobs")
        page.locator("tr[data-row] a.name").first.click()
        page.wait_for_url("**/ops/jobs/*")
        assert window.troubles == []
        away = page.goto(f"{console.origin}/opsx/jobs")
        assert away is not None
        assert away.status == 404
