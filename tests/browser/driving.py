"""A console that runs, and a browser that looks at it and notes whatever goes wrong."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

from tests.acceptance.system import ROOT, System

#: Where screenshots are kept; not in the repository.
ARTEFACTS: Final = ROOT / "artefacts" / "console"
_FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
#: Set before anything of a page runs: what its policy refuses, and what it says by a dialog of the browser.
_WATCH: Final = """
window.__refused = [];
addEventListener("securitypolicyviolation", (one) => __refused.push(one.violatedDirective + " " + one.blockedURI));
"""


class Console:
    """A console process; it may be stopped and started again at the same address."""

    def __init__(self, shop: System, **env: str) -> None:
        self.shop = shop
        self._env = {**shop.env, "HARELINE_CONSOLE_INSECURE_LOCAL": "true", **env}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.prefix = env.get("HARELINE_CONSOLE_PREFIX", "")
        self.origin = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.origin + self.prefix

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.browser.console", str(self._port)]
        self._process = subprocess.Popen(command, env=self._env, cwd=self.shop.folder)
        deadline = time.monotonic() + 90
        while True:
            assert self._process.poll() is None, "the console ended at once"
            try:
                httpx.get(f"{self.url}/static/icon.svg", timeout=5).raise_for_status()
                return
            except httpx.HTTPError:
                assert time.monotonic() < deadline, "the console does not answer"
                time.sleep(0.1)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(20)
            self._process = None

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(20)
        self._process = None

    @contextmanager
    def running(self) -> Iterator["Console"]:
        self.start()
        try:
            yield self
        finally:
            self.stop()


class Window:
    """A tab that goes nowhere but to the console, and what went wrong in it."""

    def __init__(self, context: BrowserContext, console: Console) -> None:
        self.console = console
        self.troubles: list[str] = []
        self.dialogs: list[str] = []
        self.page = context.new_page()
        self.page.add_init_script(_WATCH)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        self.page.on("dialog", self._asked)
        self.page.route("**/*", self._only_here)

    def _asked(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _said(self, message: Any) -> None:
        if message.type == "error":
            self.troubles.append(f"console: {message.text} {message.location.get('url', '')}")

    def _only_here(self, route: Route) -> None:
        url = urlsplit(route.request.url)
        if f"{url.scheme}://{url.netloc}" == self.console.origin or url.scheme in ("data", "blob"):
            route.continue_()
        else:
            self.troubles.append(f"asked elsewhere: {route.request.url}")
            route.abort()

    def go(self, path: str) -> Page:
        """Load a page, and note what its policy refused."""
        answer = self.page.goto(self.console.url + path, wait_until="load")
        assert answer is not None
        assert answer.status == 200, f"{path}: {answer.status}"
        self.check()
        return self.page

    def check(self) -> None:
        refused = self.page.evaluate("window.__refused")
        self.troubles += [f"refused by the policy: {one}" for one in refused]
        self.page.evaluate("window.__refused = []")


@contextmanager
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    found = shutil.which("chromium")
    if found is None:
        raise FileNotFoundError("Chromium is not installed; for instance: sudo apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=list(_FLAGS))
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def window(opened: Browser, console: Console, **options: Any) -> Iterator[Window]:
    """A tab of a browser that has been nowhere yet."""
    context = opened.new_context(**{"viewport": {"width": 1360, "height": 860}, **options})
    context.set_default_timeout(20_000)
    try:
        yield Window(context, console)
    finally:
        context.close()


def places(shop: System) -> dict[str, str]:
    """Every page by a name: one of each kind, of what the shop has."""
    [job] = shop.sql("SELECT CAST(id AS TEXT) FROM jobs WHERE state = 'failed' AND actor = 'charge' LIMIT 1")
    [flow] = shop.sql("SELECT CAST(id AS TEXT) FROM flows LIMIT 1")
    [worker] = shop.sql("SELECT id FROM workers LIMIT 1")
    done = shop.sql("SELECT CAST(id AS TEXT) FROM operations LIMIT 1")
    groups = shop.sql("SELECT fingerprint FROM failure_groups LIMIT 1")
    return {
        "overview": "/",
        "jobs": "/jobs",
        "jobs-view": "/jobs?state=failed&queue=billing",
        "job": f"/jobs/{job[0]}",
        "job-remove": f"/jobs/{job[0]}/remove",
        "failures": "/failures",
        "operations": "/operations",
        "operation-new": "/operations/new?q=state:failed",
        **({"operation": f"/operations/{done[0][0]}"} if done else {}),
        "audit": "/audit",
        "audit-verify": "/audit/verify",
        **({"failure": f"/failures/{groups[0][0]}"} if groups else {}),
        "flows": "/flows",
        "flow": f"/flows/{flow[0]}",
        "schedules": "/schedules",
        "schedule": "/schedules/nightly-report",
        "schedule-edit": "/schedules/nightly-report/edit",
        "schedule-new": "/new/schedule",
        "queues": "/queues",
        "queue": "/queues/billing",
        "workers": "/workers",
        "worker": f"/workers/{worker[0]}",
        "limits": "/limits",
        "settings": "/settings",
    }


def shot(page: Page, name: str) -> None:
    """Keep a screenshot for a person to look at."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)


def axe() -> str:
    return (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
