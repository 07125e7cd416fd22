"""Every page in both themes: whole, offline, inside its policy, readable by everyone, on a phone too.

What a console has to withstand in a browser, by number, and where it is shown:

 1  offline: nothing is asked elsewhere, no error, nothing that the policy refuses     here
 2  a job appears, runs and ends before the reader's eyes                              test_works.py
 3  failures are grouped, retried; the traceback of the last attempt                   test_works.py
 4  hostile texts do nothing                                                           test_withstands.py
 5  ticks stay; all that match, counted before                                         test_works.py
 6  roles: what is offered, and what is refused when it is sent all the same           test_withstands.py
 7  another site's forms and frames                                                    test_works.py
 8  without scripts                                                                    test_works.py
 9  the keyboard alone                                                                 test_works.py
10  axe, a phone, twice the size                                                       here
11  disconnected and back; eight tabs; a hidden tab                                    test_works.py
12  RabbitMQ away, a database that is slow                                             test_withstands.py
13  five million jobs                                                                  tests/campaigns/test_console.py
14  the theme stays, and does not flash                                                here
15  charts draw what the table, the API and the ledger have                            here
16  below a prefix                                                                     here
17  times in UTC or local, on the night the clocks change                              here
18  a picture of every page in both themes, and on a phone                             here
"""

import json
from datetime import UTC, datetime
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


def test_no_page_of_dramatiq_dashboard_scrolls_sideways(chromium: Browser, console: Console) -> None:
    job = driving.places(console.shop)["job"].removeprefix("/jobs/")
    for width in (360, 1024):
        with driving.window(chromium, console, viewport={"width": width, "height": 740}) as window:
            for path in ("", "queues/billing", "queues/billing/failed", f"queues/billing/failed/{job}"):
                page = window.go(f"/dramatiq/{path}")
                assert page.locator(".panel").count(), path
                wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, f"/dramatiq/{path} at {width}: {wide} pixels too wide"
                driving.shot(page, f"dramatiq-{path.count('/')}-{width}")


def test_tiles_fill_their_rows(chromium: Browser, console: Console) -> None:
    for width in (360, 800, 1024, 1280, 1920):
        with driving.window(chromium, console, viewport={"width": width, "height": 740}) as window:
            for path in ("/", "/queues/billing"):
                rows = window.go(path).evaluate(
                    "Object.values(Object.groupBy(document.querySelector('.tiles').children, one => one.offsetTop))"
                    ".map(row => row.length)"
                )
                assert len(set(rows)) == 1, f"{path} at {width}: {rows} tiles in its rows"


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
    page.locator(".top [data-menu] summary").click()
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    answer = page.reload()
    assert answer is not None
    assert 'data-theme="dark"' in answer.text()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_a_chart_draws_what_the_table_and_the_api_say(window: Window) -> None:
    """Check 15."""
    shop = window.console.shop
    [(ended,)] = shop.sql(
        "SELECT count(*) FROM attempts a JOIN jobs j ON j.id = a.job_id"
        " WHERE j.queue = 'billing' AND a.outcome = 'completed'"
    )
    counted = "SELECT sum(count) FROM tallies WHERE step_s = 60 AND queue = 'billing' AND outcome = 'completed'"
    shop.until(lambda: shop.sql(counted) == [(ended,)], 180, because="every minute is counted")
    page = window.go("/queues/billing")
    page.locator(".top [data-menu] summary").click()  # the page stays as it is from now on
    expect(page.locator("[data-live]")).to_have_attribute("data-state", "paused")
    canvas = page.locator("[data-chart] canvas").first
    painted = canvas.evaluate(
        "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }"
    )
    assert painted > 500
    names = page.locator("#throughput th").all_text_contents()[1:]
    rows = page.locator("#throughput tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => Number(cell.dataset.atS ?? cell.dataset.v)))"
    )
    since = datetime.fromtimestamp(rows[0][0], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    query = f"queue=billing&points=1000&since={since}"  # each minute is a point
    points = page.evaluate(f"fetch('/api/v1/metrics/series?{query}').then(answer => answer.json())")["points"]
    of_api = {datetime.fromisoformat(one["at"]).timestamp(): [one[name] for name in names] for one in points}
    drawn = {row[0]: row[1:] for row in rows if any(row[1:])}
    assert drawn
    assert drawn == {at: values for at, values in of_api.items() if any(values)}
    assert sum(values[0] for values in drawn.values()) == ended
    box = page.locator("[data-chart=throughput] .u-over").bounding_box()
    assert box is not None
    at = max(range(len(rows)), key=lambda index: rows[index][1])
    page.mouse.move(box["x"] + box["width"] * at / (len(rows) - 1), box["y"] + 40)
    told = page.locator("figure:has(#throughput) [data-value]")
    expect(told.first).not_to_be_empty()
    assert [float(text.replace(",", "")) for text in told.all_inner_texts()] == rows[at][1:]


def test_times_are_utc_or_local_on_the_night_the_clocks_change(chromium: Browser, console: Console) -> None:
    """Check 17: 02:30 on the night of 25 October 2026 is there twice in Berlin."""
    with driving.window(chromium, console, timezone_id="Europe/Berlin") as window:
        page = window.go("/jobs")
        assert "UTC" in (page.locator("main time").first.get_attribute("title") or "")
        page.locator(".top [data-menu] summary").click()
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
