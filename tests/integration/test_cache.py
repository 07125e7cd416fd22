"""Pages kept warm."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.cache import Warmed, cached, warmup_cache
from actors.outside import NotConfigured, Unavailable
from errors import Failure
from hareline_testing import Hareline
from ledger.states import State
from tests.scripted import Answer, Scripted, cut_mid_body, respond, status

pytestmark = pytest.mark.one_database


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    with Scripted() as server:
        server.answer = page("one")
        monkeypatch.setenv("HARELINE_WARMUP_URLS", f"{server.url}/a {server.url}/b")
        monkeypatch.setenv("HARELINE_CACHE_DIR", str(tmp_path / "cache"))
        yield server


def page(tag: str) -> Answer:
    def answer(request: Any) -> None:
        unchanged = request.headers["If-None-Match"] == tag
        (status(304) if unchanged else respond(200, {"page": tag}, ETag=tag))(request)

    return answer


def test_pages_are_fetched_and_asked_for_again_by_their_tags(kit: Hareline, site: Scripted, tmp_path: Path) -> None:
    assert warmup_cache.fn() == Warmed(fetched=2)
    assert warmup_cache.fn() == Warmed(hits=2)
    site.answer = page("two")
    assert warmup_cache.fn([f"{site.url}/a"]) == Warmed(fetched=1)
    assert cached(f"{site.url}/a", tmp_path / "cache")["body"] == '{"page": "two"}'
    assert cached(f"{site.url}/b", tmp_path / "cache")["body"] == '{"page": "one"}'


def test_a_page_that_fails_is_named_and_the_one_that_is_kept_stays(
    kit: Hareline, site: Scripted, tmp_path: Path
) -> None:
    warmup_cache.fn()
    site.script = [cut_mid_body]
    done = warmup_cache.fn()
    assert done.hits == 1
    [(url, why)] = done.failed.items()
    assert "cannot be fetched" in why
    assert cached(url, tmp_path / "cache")["body"] == '{"page": "one"}'

    site.answer = status(500)
    with pytest.raises(Unavailable, match=r"no page could be fetched; the first: .* answered 500"):
        warmup_cache.fn()
    assert cached(f"{site.url}/a", tmp_path / "cache")["body"] == '{"page": "one"}'


def test_only_pages_of_our_own_servers_are_fetched(kit: Hareline, site: Scripted) -> None:
    with pytest.raises(Failure, match=r"'http://169\.254\.169\.254/' is on no server of HARELINE_WARMUP_URLS"):
        warmup_cache.fn(["http://169.254.169.254/"])
    assert site.requests == []


def test_without_pages_the_job_says_what_to_set(kit: Hareline) -> None:
    with pytest.raises(NotConfigured, match="HARELINE_WARMUP_URLS is not set"):
        warmup_cache.fn()


def test_the_schedule_warms_them_up_every_five_minutes(site: Scripted, kit: Hareline) -> None:
    sent = warmup_cache.send()
    assert kit.wait_for(sent).state is State.COMPLETED
    kit.advance(minutes=5)
    assert kit.drain("cache-warmup") == 1
