"""The PostHog client against a real server that behaves in every way a server may."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler

import pytest

from actors.events import CompletionEvent
from actors.outside import DEFAULT_DELAY_MS, LONGEST_DELAY_MS, SHORTEST_DELAY_MS
from actors.posthog import PostHog, PostHogRefused, PostHogUnavailable, uuid_of
from cli.demo.posthog import KEY, PostHogServer
from errors import Discard, Retry
from tests.scripted import Scripted, cut_mid_body, status

pytestmark = pytest.mark.one_database

COMPLETION = CompletionEvent.parse(
    {
        "request_id": "req_1",
        "customer": "northwind",
        "user": "ada",
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 1000,
        "output_tokens": 100,
        "latency_ms": 1200,
        "at": "2026-11-01T00:30:00+00:00",
    }
)


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as scripted:
        yield scripted


@pytest.fixture
def client(server: Scripted) -> Iterator[PostHog]:
    with PostHog(f"http://127.0.0.1:{server.server_port}/", "phc_test", timeout_s=5) as posthog:
        yield posthog


def test_an_event_goes_to_the_batch_endpoint_as_an_ai_generation(client: PostHog, server: Scripted) -> None:
    client.capture(COMPLETION)

    [(path, sent)] = server.requests
    assert path == "/batch/"
    assert sent["api_key"] == "phc_test"
    [event] = sent["batch"]
    assert event["event"] == "$ai_generation"
    assert event["uuid"] == uuid_of("req_1")
    assert event["distinct_id"] == "ada"
    assert datetime.fromisoformat(event["timestamp"]) == COMPLETION.at
    assert event["properties"]["$ai_model"] == "gpt-4o"
    assert event["properties"]["$ai_input_tokens"] == 1000
    assert event["properties"]["$ai_latency"] == 1.2


def test_two_deliveries_of_one_request_are_one_event_to_posthog() -> None:
    with PostHogServer() as server, PostHog(server.url, KEY, timeout_s=5) as client:
        client.capture(COMPLETION)
        client.capture(COMPLETION)

        assert server.received == {uuid_of("req_1"): 2}


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_server_is_asked_again_when_it_says(client: PostHog, server: Scripted, code: int) -> None:
    server.answer = status(code, Retry_After="7")

    with pytest.raises(Retry, match=str(code)) as asked:
        client.capture(COMPLETION)

    assert asked.value.delay == 7000


def test_the_delay_may_be_an_http_date(client: PostHog, server: Scripted) -> None:
    server.answer = status(503, Retry_After=format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True))

    with pytest.raises(Retry) as asked:
        client.capture(COMPLETION)

    assert asked.value.delay is not None
    assert 60_000 < asked.value.delay <= 90_000


@pytest.mark.parametrize(
    ("header", "delay"),
    [
        (None, DEFAULT_DELAY_MS),
        ("soon", DEFAULT_DELAY_MS),
        ("nan", DEFAULT_DELAY_MS),
        ("0", SHORTEST_DELAY_MS),
        ("-5", SHORTEST_DELAY_MS),
        ("1.5", 1500),
        ("Sun, 06 Nov 1994 08:49:37 GMT", SHORTEST_DELAY_MS),
        ("31536000", LONGEST_DELAY_MS),
    ],
)
def test_an_odd_delay_is_made_a_sane_one(client: PostHog, server: Scripted, header: str | None, delay: int) -> None:
    server.answer = status(429, **({} if header is None else {"Retry_After": header}))

    with pytest.raises(Retry) as asked:
        client.capture(COMPLETION)

    assert asked.value.delay == delay


@pytest.mark.parametrize("code", [500, 502, 504, 408])
def test_a_failing_server_is_left_to_the_back_off_of_the_job(client: PostHog, server: Scripted, code: int) -> None:
    server.answer = status(code)

    with pytest.raises(PostHogUnavailable, match=f"/batch/ answered {code}"):
        client.capture(COMPLETION)

    assert not issubclass(PostHogUnavailable, Discard | Retry)


@pytest.mark.parametrize("code", [400, 401, 404, 413, 301])
def test_a_refusal_is_final_and_says_what_to_check(client: PostHog, server: Scripted, code: int) -> None:
    server.answer = status(code, Location="/elsewhere")

    with pytest.raises(PostHogRefused, match=rf"answered {code} .*check POSTHOG_URL and POSTHOG_API_KEY"):
        client.capture(COMPLETION)

    assert issubclass(PostHogRefused, Discard)


def test_an_answer_cut_off_in_its_body_is_no_success(client: PostHog, server: Scripted) -> None:
    server.answer = cut_mid_body

    with pytest.raises(PostHogUnavailable, match="cannot be reached"):
        client.capture(COMPLETION)


def test_a_server_that_does_not_answer_is_given_up_after_the_timeout(server: Scripted) -> None:
    released = threading.Event()

    def never(request: BaseHTTPRequestHandler) -> None:
        released.wait()
        request.close_connection = True

    server.answer = never
    with PostHog(f"http://127.0.0.1:{server.server_port}", "phc_test", timeout_s=0.2) as client:
        with pytest.raises(PostHogUnavailable, match=r"did not answer within 0\.2 s"):
            client.capture(COMPLETION)
        released.set()


def test_a_server_that_is_not_there_is_named(server: Scripted) -> None:
    port = server.server_port
    server.shutdown()
    server.server_close()

    nowhere = f"http://127.0.0.1:{port}"
    unavailable = pytest.raises(PostHogUnavailable, match=f"{nowhere}/batch/ cannot be reached")
    with PostHog(nowhere, "phc_test", timeout_s=5) as client, unavailable:
        client.capture(COMPLETION)


def test_threads_share_the_client_and_its_connections(client: PostHog, server: Scripted) -> None:
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            list(pool.map(client.capture, [COMPLETION] * 4))

    assert len(server.requests) == 20
    assert len(server.connections) <= 4
