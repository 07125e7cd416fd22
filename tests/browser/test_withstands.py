"""What the console withstands: texts that would act, people who may not, RabbitMQ that is away, a slow database."""

import re
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import text as sql

from broker import build
from control import Control
from control.permissions import Role
from control.users import add
from ledger import open_ledger
from ledger.bookkeeping import Bookkeeping
from ledger.migrate import Migrations
from settings import Settings
from tests.acceptance.system import System, system
from tests.browser import driving, seeding
from tests.browser.driving import Console, Window
from tests.faultproxy import FaultProxy
from tests.hostile import CORPUS
from tests.planting import plant
from tests.servers import RabbitMQ

pytestmark = pytest.mark.timeout(900)

#: A name that has no place to break.
LONG = "department_of_outstanding_invoices_" * 5
_PAGES = (
    *("/", "/jobs", "/jobs?state=failed", "/failures", "/schedules", "/queues", "/workers", "/workers?everyone=true"),
    *("/limits", "/operations", "/operations/new?q=state:failed", "/audit", "/audit/verify", "/flows", "/settings"),
)
#: What a pointer, a finger or a curious reader would set off.
_PROVOKE = """
for (const one of document.querySelectorAll("main details")) one.open = true;
for (const one of document.querySelectorAll("body *"))
  for (const kind of ["mouseover", "mouseenter", "focus", "load", "error"]) one.dispatchEvent(new Event(kind));
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, dict[str, list[str]]]]:
    """A ledger with the corpus in every place; the jobs by text: done, dead, running."""
    folder: Path = tmp_path_factory.mktemp("planted")
    url = f"sqlite:///{folder / 'hareline.db'}"
    Migrations(url).upgrade()
    broker = build(Settings(database_url=url))

    @dramatiq.actor(broker=broker, queue_name="letters")
    def post(to: str) -> None: ...

    session, control, books = (
        open_ledger(url, road="embedded").session("test"),
        Control(url, "embedded"),
        Bookkeeping(url),
    )
    jobs = {text: plant(session, control, broker, text) for text in (*CORPUS, LONG)}
    books.group()
    for opened in (session, control, books, broker):
        opened.close()
    with system(folder, url, None) as found:
        yield found, jobs


def _inert(window: Window, path: str) -> Page:
    """The page, after everything in it was touched; it did nothing but show."""
    page = window.go(path)
    page.evaluate(_PROVOKE)
    assert page.evaluate("window.__pwned") is None, path
    assert page.title().endswith("Hareline"), path
    assert page.locator("main script, main style, main img, main iframe").count() == 0, path
    window.check()
    assert (window.troubles, window.dialogs) == ([], []), path
    return page


def test_hostile_texts_are_shown_as_they_are_and_do_nothing(
    chromium: Browser, planted: tuple[System, dict[str, list[str]]]
) -> None:
    """Check 4."""
    shop, jobs = planted
    with Console(shop).running() as console, driving.window(chromium, console) as window:
        links: set[str] = set()
        for path in (*_PAGES, *(f"/jobs/{id}" for ids in jobs.values() for id in ids)):
            page = _inert(window, path)
            links |= set(
                page.locator("main a[href]").evaluate_all("links => links.map(link => link.getAttribute('href'))")
            )
        elsewhere = re.compile(r"/(dramatiq|static|licences)/|/jobs/export|#")
        asked = sorted(link for link in links if not elsewhere.match(link))
        assert len(asked) > 10 * len(CORPUS)
        for link in asked:
            _inert(window, link)
        for text, (_, dead, _) in jobs.items():
            shown = _inert(window, f"/jobs/{dead}").locator("main").text_content() or ""
            assert " ".join(text.split()) in " ".join(shown.split()), text


def test_a_long_name_makes_no_page_wider_than_the_screen(
    chromium: Browser, planted: tuple[System, dict[str, list[str]]]
) -> None:
    shop, jobs = planted
    paths = (*_PAGES, *(f"/jobs/{id}" for id in jobs[LONG]), f"/queues/{LONG}", f"/schedules/s{LONG}")
    too_wide = {}
    with Console(shop).running() as console:
        for width in (380, 1280):
            with driving.window(chromium, console, viewport={"width": width, "height": 800}) as window:
                for path in paths:
                    page = window.go(path)
                    driving.shot(page, f"long-{width}-{path.partition('?')[0].strip('/').replace('/', '-')[:24]}")
                    if (wide := page.evaluate("document.documentElement.scrollWidth - innerWidth")) > 0:
                        too_wide[width, path] = wide
    assert too_wide == {}


def test_hostile_texts_do_nothing_in_what_scripts_make_of_them(
    chromium: Browser, planted: tuple[System, dict[str, list[str]]]
) -> None:
    """Check 4: suggestions, dialogs, and a page that is fetched again and morphed."""
    shop, jobs = planted
    with Console(shop).running() as console, driving.window(chromium, console) as window:
        page = window.go("/jobs")
        page.locator("#q").press_sequentially("queue:")
        expect(page.locator("#q-list li")).to_have_count(len(jobs), timeout=10_000)
        page.keyboard.press("Escape")
        expect(page.locator("main")).to_be_visible()
        seeding.send(shop, "from tests.browser.shop import *\nreserve.send(1)")
        expect(page.locator("tr[data-row]", has_text="reserve")).to_be_visible(timeout=20_000)
        for _, dead, _ in jobs.values():
            window.go(f"/jobs/{dead}")
            page.get_by_role("link", name="Remove").click()
            expect(page.locator("dialog[open] [data-confirm]")).to_be_visible()
            page.keyboard.press("Escape")
        for text in CORPUS:
            window.go("/queues")
            page.locator("a.name").get_by_text(text, exact=True).first.click()
            page.wait_for_url(re.compile("/queues/."), wait_until="load")  # before that a link is only a link
            page.locator("[data-menu] summary", has_text="More").click()
            page.get_by_role("link", name="Change limits").click()
            expect(page.locator("dialog[open] h1")).to_be_visible()
            page.evaluate(_PROVOKE)
            assert page.evaluate("window.__pwned") is None
            page.keyboard.press("Escape")
        window.check()
        assert (window.troubles, window.dialogs) == ([], [])


_SEND = """
([path]) => fetch(path, {
  method: "POST",
  redirect: "manual",
  body: new URLSearchParams({csrf_token: document.querySelector("[name=csrf_token]").value}),
}).then((answer) => answer.status || answer.type)
"""
_MAY = {
    Role.VIEWER: (set[str](), 403),
    Role.PAYLOAD_VIEWER: (set[str](), 403),
    Role.OPERATOR: ({"retry", "edit"}, "opaqueredirect"),
    Role.ADMIN: ({"retry", "edit", "remove", "reveal"}, "opaqueredirect"),
}


@pytest.mark.parametrize("role", list(Role))
def test_a_role_sees_the_buttons_of_what_it_may_and_is_refused_the_rest(
    chromium: Browser, tmp_path: Path, sqlite_url: str, role: Role
) -> None:
    """Check 6: what is not offered is refused when it is sent all the same; what jobs carry is not for a viewer."""
    with system(tmp_path, sqlite_url, None) as shop:
        shop.worker(app="tests.browser.shop")
        seeding.send(shop, "from tests.browser.shop import *\nrefuse.send('order of Grace Hopper has no address')")
        shop.until(lambda: shop.states().get("failed") == 1, 60)
        [(id,)] = shop.sql("SELECT CAST(id AS TEXT) FROM jobs")
        control = Control(sqlite_url, "embedded")
        add(control, "ada", "correct horse battery", role, by="test")
        control.close()
        closed = Console(shop, HARELINE_CONSOLE_INSECURE_LOCAL="false")
        with closed.running() as console, driving.window(chromium, console) as window:
            page = window.page
            page.goto(f"{console.url}/login")
            page.get_by_label("Name").fill("ada")
            page.get_by_label("Password").fill("correct horse battery")
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(re.compile(r"/$"))
            page = window.go(f"/jobs/{id}")
            verbs = {"retry", "edit", "remove", "reveal"}
            offered = {verb for verb in verbs if page.locator(f"[action$='/{verb}'], a[href$='/{verb}']").count()}
            assert offered == _MAY[role][0]
            assert page.evaluate(_SEND, [f"/jobs/{id}/retry"]) == _MAY[role][1]
            for path in (f"/jobs/{id}", "/jobs", "/jobs/export.csv", f"/api/v1/jobs/{id}", "/api/v1/jobs"):
                body = page.evaluate(f"fetch('{path}', {{headers: {{Accept: '*/*'}}}}).then(answer => answer.text())")
                assert ("Grace Hopper" in body) == (role is not Role.VIEWER), path


def test_rabbitmq_that_is_away_is_unknown_as_of_when_and_jobs_are_shown_all_the_same(
    chromium: Browser, on_rabbitmq: System, rabbitmq: RabbitMQ
) -> None:
    """Check 12, the road."""
    shop = on_rabbitmq
    assert shop.broker_url is not None
    shop.worker(app="tests.browser.shop")
    seeding.send(shop, "from tests.browser.shop import *\nfor n in range(3): reserve.send(n)")
    shop.until(lambda: shop.states() == {"completed": 3}, 60)
    ports = [int(url.rpartition(":")[2].partition("/")[0]) for url in (shop.broker_url, rabbitmq.management_url)]
    with FaultProxy(ports[0]) as amqp, FaultProxy(ports[1]) as management:
        looked_at = Console(
            shop,
            BROKER_URL=amqp.url(shop.broker_url),
            HARELINE_RABBITMQ_MANAGEMENT_URL=management.url(f"{rabbitmq.management_url}/"),
        )
        with looked_at.running() as console, driving.window(chromium, console) as window:
            page = window.go("/queues/billing")
            road = page.locator("section", has=page.get_by_role("heading", name="In RabbitMQ"))
            expect(road.locator(".sec")).to_contain_text("as of", timeout=60_000)
            expect(road).not_to_contain_text("unknown", timeout=60_000)
            expect(road.locator("td[data-label=Consumers]").first).to_have_text(re.compile("[1-9]"), timeout=60_000)
            for way in (amqp, management):
                way.refuse()
                way.reset()
            expect(road).to_contain_text("unknown, as of", timeout=90_000)
            expect(road.locator("td[data-label=Ready]")).to_have_text(["unknown", "unknown"])
            driving.shot(page, "queue-road-unknown")
            page = window.go("/")
            expect(page.locator(".health")).to_contain_text("RabbitMQ unknown, as of")
            page = window.go("/jobs")
            expect(page.locator("tr[data-row]")).to_have_count(3)
            page.locator("tr[data-row] a.name").first.click()
            page.wait_for_url("**/jobs/*-*")
            expect(page.locator(".attempt")).to_have_count(1)
            assert window.troubles == []


def test_a_slow_database_costs_the_region_it_is_slow_for_and_no_more(chromium: Browser, on_rabbitmq: System) -> None:
    """Check 12, the database: the history is locked, as by a migration."""
    shop = on_rabbitmq
    shop.worker(app="tests.browser.shop")
    seeding.send(shop, "from tests.browser.shop import *\nreserve.send(1)")
    shop.until(lambda: shop.states() == {"completed": 1}, 60)
    with Console(shop).running() as console, driving.window(chromium, console) as window:
        page = window.go("/jobs")
        with shop.engine.connect() as connection:
            connection.execute(sql("LOCK TABLE history IN ACCESS EXCLUSIVE MODE"))
            page = window.go("/jobs?q=actor:reserve")
            expect(page.locator("[data-trouble]")).to_contain_text("no answer within 2 s")
            expect(page.locator("#q")).to_have_value("actor:reserve")
            driving.shot(page, "jobs-slow")
            window.go("/operations")
            window.go("/settings")
            page = window.go("/workers")
            expect(page.locator("tr[data-row]")).to_have_count(1)
            page = window.page
            page.goto(f"{console.url}/jobs?q=actor:reserve")
            connection.rollback()
        expect(page.locator("tr[data-row]")).to_have_count(1, timeout=40_000)  # by itself
