"""Webhooks: what is sent, what becomes of it, and where nothing is sent whatever the address pretends to be."""

import base64
import hmac
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner

from actors.addresses import Forbidden, Gate
from actors.cache import warmup_cache
from actors.data import process_data
from actors.outside import NotConfigured, Refused, Unavailable
from actors.signing import key_for, signed, written
from actors.webhooks import Gone, WebhookEvent, deliver_webhook, post
from cli import main
from errors import Failure, Retry
from hareline_testing import Hareline
from ledger.states import State
from tests.hostile import SSRF
from tests.mailserver import certified
from tests.scripted import Scripted, cut_mid_body, status

pytestmark = pytest.mark.one_database

SECRET = "whsec_" + base64.b64encode(b"sixteen bytes ok").decode()
EVENT = WebhookEvent(id="evt_1", type="invoice.closed", at=datetime(2026, 11, 1, tzinfo=UTC), data={"amount": "1.50"})


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    monkeypatch.setenv("HARELINE_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("HARELINE_WEBHOOK_NETWORKS", "127.0.0.1")
    with Scripted() as server:
        yield server


def test_an_event_is_posted_signed_and_once(actors_here: Any, receiver: Scripted) -> None:
    deliver_webhook.fn(f"{receiver.url}/hook", EVENT)
    deliver_webhook.fn(f"{receiver.url}/hook", EVENT)

    [(path, sent)] = receiver.requests
    assert path == "/hook"
    assert sent == {"id": "evt_1", "type": "invoice.closed", "at": "2026-11-01T00:00:00Z", "data": {"amount": "1.50"}}
    [headers], [body] = receiver.headers, receiver.bodies
    text = f"evt_1.{headers['webhook-timestamp']}.".encode() + body
    assert (
        headers["webhook-signature"]
        == "v1," + base64.b64encode(hmac.digest(key_for(f"{receiver.url}/hook"), text, sha256)).decode()
    )
    assert headers["webhook-id"] == "evt_1"
    assert headers["Host"] == f"127.0.0.1:{receiver.server_port}"


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of the specification's own libraries.
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert written(key) == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', at=at)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_who_can_check_what_one_address_receives_can_sign_nothing_for_another(
    receiver: Scripted, actors_here: Any
) -> None:
    for path in ("customer", "accounting"):
        deliver_webhook.fn(f"{receiver.url}/{path}", EVENT)
    [body, same], [_, to_accounting] = receiver.bodies, receiver.headers
    assert body == same

    at = datetime.fromtimestamp(int(to_accounting["webhook-timestamp"]), UTC)
    genuine = to_accounting["webhook-signature"]
    assert genuine == signed(key_for(f"{receiver.url}/accounting"), "evt_1", body, at=at)["webhook-signature"]
    for forged in (key_for(f"{receiver.url}/customer"), key_for(receiver.url), b"sixteen bytes ok"):
        assert genuine != signed(forged, "evt_1", body, at=at)["webhook-signature"]


def test_a_key_is_printed_for_the_owner_of_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARELINE_WEBHOOK_SECRET", SECRET)
    url = "https://example.org/hook"
    printed = CliRunner().invoke(main, ["webhooks", "key", url]).stdout
    assert printed.strip() == written(key_for(url))
    assert "sixteen" not in base64.b64decode(printed.removeprefix("whsec_")).decode(errors="replace")
    refused = CliRunner().invoke(main, ["webhooks", "key", "example.org"])
    assert (refused.exit_code, refused.stdout) == (2, "")


@pytest.mark.parametrize("id", ["invoice:Müller GmbH:2026-10", "a\nb", "100%", "名" * 300])
def test_whatever_an_event_is_called_it_is_delivered_and_can_be_checked(
    actors_here: Any, receiver: Scripted, id: str
) -> None:
    url = f"{receiver.url}/hook"
    deliver_webhook.fn(url, EVENT.model_copy(update={"id": id}))
    [headers], [body] = receiver.headers, receiver.bodies
    assert unquote(headers["webhook-id"]) == json.loads(body)["id"] == id
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.digest(key_for(url), text, sha256)
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize("secret", ["guess", "whsec_Z3Vlc3M=", "whsec_?"])
def test_a_secret_that_can_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("HARELINE_WEBHOOK_SECRET", secret)
    with pytest.raises(Failure, match=r"has \d bytes; give at least 16"):
        key_for("https://example.org/hook")


def test_without_a_secret_nothing_is_sent(actors_here: Any) -> None:
    with pytest.raises(NotConfigured, match="HARELINE_WEBHOOK_SECRET is not set"):
        deliver_webhook.fn("https://example.org/hook", EVENT)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (status(429, Retry_After="7"), Retry, "429"),
        (status(503, Retry_After="7"), Retry, "503"),
        (status(500), Unavailable, "500"),
        (status(408), Unavailable, "408"),
        (status(421), Unavailable, "421"),
        (status(410), Gone, "410 .*remove this address"),
        (status(404), Refused, "404"),
        (status(302, Location="http://127.0.0.1:1/"), Refused, "redirects are not followed"),
        (status(307, Location="http://169.254.169.254/latest/meta-data"), Refused, "redirects are not followed"),
    ],
)
def test_each_answer_means_what_it_says(kit: Hareline, receiver: Scripted, answer: Any, kind: type, words: str) -> None:
    receiver.answer = answer
    with pytest.raises(kind, match=words):
        deliver_webhook.fn(receiver.url, EVENT)
    assert len(receiver.requests) == 1

    receiver.answer = status(204)
    deliver_webhook.fn(receiver.url, EVENT)
    assert len(receiver.requests) == 2


def test_one_connection_serves_many_webhooks(kit: Hareline, receiver: Scripted) -> None:
    for number in range(5):
        deliver_webhook.fn(receiver.url, EVENT.model_copy(update={"id": f"evt_{number}"}))
    assert len(receiver.requests) == 5
    assert len(receiver.connections) == 1


def test_each_name_at_an_address_has_to_show_a_certificate_of_its_own(
    kit: Hareline, receiver: Scripted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One server, or one that many share: what was proved to one name is not taken for another."""
    trusted = tmp_path / "ca.pem"
    receiver.socket = certified(trusted, "customer.example").wrap_socket(receiver.socket, server_side=True)
    monkeypatch.setattr("certifi.where", lambda: str(trusted))
    monkeypatch.setattr("actors.webhooks.gate", lambda networks: Gate(networks, resolve=lambda *_: ["127.0.0.1"]))
    post(f"https://customer.example:{receiver.server_port}/", EVENT)
    with pytest.raises(Unavailable, match=r"not valid for 'accounting\.example'"):
        post(f"https://accounting.example:{receiver.server_port}/", EVENT)
    post(f"https://customer.example:{receiver.server_port}/", EVENT)
    assert [headers["Host"].partition(":")[0] for headers in receiver.headers] == ["customer.example"] * 2


def test_an_answer_that_breaks_off_is_no_answer(kit: Hareline, receiver: Scripted) -> None:
    receiver.answer = cut_mid_body
    with pytest.raises(Unavailable, match="cannot be reached"):
        deliver_webhook.fn(receiver.url, EVENT)


def test_a_receiver_that_is_down_for_a_while_is_sent_it_when_it_is_back(kit: Hareline, receiver: Scripted) -> None:
    receiver.script = [status(500), status(429, Retry_After="30"), status(502)]
    message = deliver_webhook.send(receiver.url, EVENT)

    job = kit.wait_for(message, timeout=120, raises=False)
    assert (job.state, job.attempts_spent) == (State.COMPLETED, 4)
    assert len(receiver.requests) == 4


def test_a_receiver_that_is_always_too_busy_is_left_alone_after_ten_attempts(kit: Hareline, receiver: Scripted) -> None:
    receiver.answer = status(429, Retry_After="0")
    job = kit.wait_for(deliver_webhook.send(receiver.url, EVENT), timeout=120, raises=False)
    assert (job.state, job.attempts_spent, len(receiver.requests)) == (State.FAILED, 10, 10)
    waits = [(b.started_at - a.started_at).total_seconds() for a, b in pairwise(job.attempts)]
    assert min(waits) >= 0.9, "whoever asks for none is given a second"


def inside(host: str, port: int) -> list[str]:
    """Numbers as the system reads them; every name leads to this machine."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return ["127.0.0.1"]
    return [str(item[4][0]) for item in found]


@pytest.mark.parametrize("url", SSRF)
def test_addresses_inside_are_refused_however_they_are_written(url: str) -> None:
    with pytest.raises(Forbidden) as raised:
        Gate(resolve=inside).target(url)
    assert raised.value.code == "forbidden_address"


def test_none_of_them_is_sent_anything_by_a_webhook_a_data_job_or_a_warm_up(
    kit: Hareline, receiver: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARELINE_WEBHOOK_NETWORKS", "")
    monkeypatch.setenv("HARELINE_DATA_SOURCES", "http:// https://")
    monkeypatch.setenv("HARELINE_WARMUP_URLS", "https://example.org/")
    monkeypatch.setattr("actors.webhooks.gate", lambda networks: Gate(networks, resolve=inside))
    monkeypatch.setattr("actors.sources.Gate", lambda networks: Gate(networks, resolve=inside))
    here = [f"http://{host}:{receiver.server_port}/a.csv" for host in ("2130706433", "localhost", "[::ffff:7f00:1]")]
    for url in [*here, *SSRF]:
        with pytest.raises(Forbidden):
            post(url, EVENT)
        with pytest.raises(
            Failure, match=r"nothing is sent to|is within none|could mean|no URL|is outside of|no file|is no path"
        ):
            process_data.fn("d1", url)
        with pytest.raises(Failure, match="is on no server"):
            warmup_cache.fn([url])
    assert receiver.requests == []


def test_a_webhook_inside_is_a_dead_letter_at_once_that_says_why(kit: Hareline, receiver: Scripted) -> None:
    job = kit.wait_for(deliver_webhook.send("http://169.254.169.254/latest/meta-data/", EVENT), raises=False)
    assert (job.state, job.attempts_spent) == (State.FAILED, 1)
    assert job.attempts[-1].error_type == "forbidden_address"
    assert "169.254.169.254, which is not public" in str(job.attempts[-1].error_message)


def test_no_proxy_of_the_environment_is_asked(actors_here: pytest.MonkeyPatch, receiver: Scripted) -> None:
    """A proxy would resolve the name itself, after it was judged here."""
    with Scripted() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            actors_here.setenv(name, proxy.url)
        deliver_webhook.fn(receiver.url, EVENT)
        assert proxy.requests == []
    assert len(receiver.requests) == 1


def test_what_one_receiver_sets_as_a_cookie_no_other_at_its_address_is_sent(
    actors_here: Any, receiver: Scripted
) -> None:
    receiver.script = [status(200, **{"Set-Cookie": "of=the-first; Path=/"})]
    deliver_webhook.fn(f"{receiver.url}/first", EVENT)
    deliver_webhook.fn(f"{receiver.url}/second", EVENT.model_copy(update={"id": "evt_2"}))
    assert len(receiver.headers) == 2
    assert "Cookie" not in receiver.headers[1]


def test_a_network_that_has_only_ipv6_reaches_public_addresses() -> None:
    target = Gate(resolve=lambda host, port: ["64:ff9b::5db8:d70e"]).target("https://example.org/")
    assert target.url.host == "64:ff9b::5db8:d70e"


def test_public_addresses_are_not() -> None:
    for address in ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"):
        target = Gate(resolve=lambda host, port, at=address: [at]).target("https://example.org:8443/a?b=c")  # type: ignore[misc]
        assert (target.url.host, target.host, target.name) == (address, "example.org:8443", "example.org")
        assert target.url.raw_path == b"/a?b=c"


def test_a_name_with_one_private_address_among_others_is_refused() -> None:
    with pytest.raises(Forbidden, match=r"example\.org is 10\.0\.0\.1"):
        Gate(resolve=lambda host, port: ["93.184.215.14", "10.0.0.1"]).target("https://example.org/")


def test_a_name_that_means_another_address_the_next_time_is_connected_to_where_it_was_judged(
    actors_here: pytest.MonkeyPatch, receiver: Scripted
) -> None:
    """DNS rebinding: the check sees one address, and a second look would see the one inside."""
    asked = []

    def changing(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    with Scripted("127.0.0.2", receiver.server_port) as inside:
        actors_here.setattr("actors.webhooks.gate", lambda networks: Gate(networks, resolve=changing))
        deliver_webhook.fn(f"http://rebinding.example:{receiver.server_port}/", EVENT)

        assert inside.requests == []
    assert asked == ["rebinding.example"], "it is resolved once"
    assert len(receiver.requests) == 1
    assert receiver.headers[0]["Host"] == f"rebinding.example:{receiver.server_port}"


def test_exceptions_are_named_by_the_setting() -> None:
    assert Gate("10.1.0.0/16, ::1").target("http://10.1.2.3/").url.host == "10.1.2.3"
    assert Gate("10.1.0.0/16, ::1").target("http://[::1]:8080/").host == "[::1]:8080"
    with pytest.raises(Forbidden, match="HARELINE_WEBHOOK_NETWORKS"):
        Gate("10.1.0.0/16").target("http://10.2.0.1/")
