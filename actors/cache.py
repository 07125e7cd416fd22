"""Queue ``cache-warmup``: pages that are fetched before somebody waits for them."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import dramatiq
import httpx
import structlog
from pydantic import BaseModel

from actors.outside import NotConfigured, Unavailable
from actors.per_process import per_process
from actors.priorities import Priority
from errors import Failure
from middleware.current import current_job_or_none
from settings import load

#: Pages that one job fetches at once.
AT_ONCE = 4
#: Largest page that is kept.
MOST_BYTES = 10_000_000

log = structlog.get_logger(__name__)


class Warmed(BaseModel):
    """What became of the pages."""

    hits: int = 0  #: those that had not changed
    fetched: int = 0
    failed: dict[str, str] = {}  #: and why


@dramatiq.actor(queue_name="cache-warmup", priority=Priority.BACKGROUND, max_retries=2, store_results=True)
def warmup_cache(urls: list[str] | None = None) -> Warmed:
    """Fetch pages into ``cache_dir``, four at a time; those of the setting ``warmup_urls`` when none are given.

    Only pages of the servers in that setting: what others name is not fetched from inside our network.  Pages that
    fail keep no other back; the job is tried again when all have failed.

    Idempotent: a page is asked for with the tag of the one that is kept, and replaced as a whole when it has changed.
    """
    ours = load().warmup_urls.split()
    if not ours:
        raise NotConfigured("warmup_urls", "no page may be fetched")
    servers = {_server(url) for url in ours} - {None}
    wanted = ours if urls is None else urls
    if strange := [url for url in wanted if _server(url) not in servers]:
        raise Failure(f"{strange[0]!r} is on no server of HARELINE_WARMUP_URLS; add one of its pages", code="forbidden")
    folder = Path(load().cache_dir)
    job = current_job_or_none()
    done = Warmed()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tried = [(url, pool.submit(copy_context().run, fetch, url, folder)) for url in dict.fromkeys(wanted)]
        for number, (url, future) in enumerate(tried, 1):
            try:
                found = future.result()
            except Unavailable as error:
                done.failed[url] = str(error)
            else:
                done.hits += found == "hit"
                done.fetched += found == "fetched"
            if job is not None:
                job.progress(number, len(tried), f"{len(done.failed)} failed")
    if done.failed and not (done.hits or done.fetched):
        raise Unavailable(f"no page could be fetched; the first: {next(iter(done.failed.values()))}")
    log.info("cache.warmed", hits=done.hits, fetched=done.fetched, failed=sorted(done.failed))
    return done


def fetch(url: str, folder: Path) -> Literal["hit", "fetched"]:
    """Keep a page as it is now.  Raises :class:`~actors.outside.Unavailable`: for a cache, every failure may pass."""
    path = path_of(url, folder)
    tag = cached(url, folder).get("etag")
    try:
        response = client().get(url, headers={"If-None-Match": tag} if tag else {})
    except httpx.HTTPError as error:
        raise Unavailable(f"{url} cannot be fetched: {str(error) or type(error).__name__}") from error
    if response.status_code == 304:
        return "hit"
    if response.status_code != 200 or len(response.content) > MOST_BYTES:
        raise Unavailable(f"{url} answered {response.status_code} with {len(response.content)} bytes")
    page = {"url": url, "etag": response.headers.get("etag"), "body": response.text}
    path.parent.mkdir(parents=True, exist_ok=True)
    # A reader sees the old page or the new one, never half of it.
    beside = path.with_suffix(f".{os.getpid()}.{id(response)}")
    beside.write_text(json.dumps(page))
    beside.replace(path)
    return "fetched"


def cached(url: str, folder: Path) -> dict[str, Any]:
    """The page that is kept: its ``url``, ``etag`` and ``body``; empty when there is none."""
    try:
        page: dict[str, Any] = json.loads(path_of(url, folder).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return page


def _server(url: str) -> tuple[str, bytes, int | None] | None:
    """Whom a URL is sent to, as who sends it reads it; None when that is nobody, or somebody logs in by it."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return None
    return None if parsed.userinfo else (parsed.scheme, parsed.raw_host, parsed.port)


def path_of(url: str, folder: Path) -> Path:
    """Where a page is kept."""
    return folder / f"{sha256(url.encode()).hexdigest()}.json"


@per_process
def client() -> httpx.Client:
    """This process's client."""
    return httpx.Client(timeout=load().http_timeout_s, follow_redirects=False)
