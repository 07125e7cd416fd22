"""Vectors of entities, in both databases, from a server that fails in each way it can."""

import threading
from typing import Any

import pytest

from actors.embeddings import bulk_embed, cleanup_embeddings, delete_embedding, generate_embedding
from actors.openai import OpenAI
from actors.outside import NotConfigured, Refused, Unavailable
from actors.vectors import Entity, drafts, nearest, remember, remove
from errors import Failure, RateLimited, Retry
from hareline_testing import Hareline
from ledger.states import State
from tests.scripted import BROKEN, BUSY, KEYLESS, OVERLOADED, QUOTA, OpenAIServer, cut_mid_body, respond, silent
from tests.scripted import vector_of as vector

MODEL = "text-embedding-3-small"


def person(id: str) -> Entity:
    return Entity(user="ada", type="person", id=id)


def nearest_to(name: str) -> list[str]:
    return [entity.id for entity, _ in nearest("ada", vector(f"name: {name}"), model=MODEL)]


pytestmark = pytest.mark.usefixtures("actors_here")


def test_an_entity_is_found_by_what_it_says(openai_server: OpenAIServer) -> None:
    for id, name in (("1", "Grace"), ("2", "Edsger"), ("3", "Barbara")):
        remember(person(id), {"name": name})
        generate_embedding.fn(person(id), "create")

    [(found, distance), *others] = nearest("ada", vector("name: Edsger"), model=MODEL)
    assert found == person("2")
    assert distance == pytest.approx(0, abs=1e-6)
    assert len(others) == 2
    assert nearest("bob", vector("name: Edsger"), model=MODEL) == []
    assert nearest("ada", vector("name: Edsger"), model=MODEL, limit=1) == [(found, distance)]


def test_a_second_run_asks_nobody_and_changes_nothing(openai_server: OpenAIServer) -> None:
    remember(person("1"), {"name": "Grace"})
    generate_embedding.fn(person("1"))
    generate_embedding.fn(person("1"), "create")

    assert openai_server.embedded == [["name: Grace"]]


def test_an_entity_that_changed_is_embedded_anew_and_one_that_did_not_is_not(openai_server: OpenAIServer) -> None:
    for name in ("Grace", "Edsger", "Edsger"):
        remember(person("1"), {"name": name, "nickname": None})
        generate_embedding.fn(person("1"))

    assert openai_server.embedded == [["name: Grace"], ["name: Edsger"]]
    assert nearest("ada", vector("name: Edsger"), model=MODEL)[0][1] == pytest.approx(0, abs=1e-6)


def test_an_entity_that_changes_while_it_is_embedded_is_embedded_again(openai_server: OpenAIServer) -> None:
    remember(person("1"), {"name": "Grace"})

    def change_meanwhile(request: Any) -> None:
        remember(person("1"), {"name": "Rear Admiral Grace"})
        openai_server.answer(request)

    openai_server.script = [change_meanwhile]
    with pytest.raises(Retry, match="changed while it was embedded"):
        generate_embedding.fn(person("1"))
    assert nearest_to("Grace") == []

    generate_embedding.fn(person("1"))
    assert nearest_to("Rear Admiral Grace") == ["1"]


def test_what_is_deleted_stays_gone(openai_server: OpenAIServer) -> None:
    remember(person("1"), {"name": "Grace"})
    generate_embedding.fn(person("1"))
    remove(person("1"))
    for _ in range(2):
        generate_embedding.fn(person("1"), "delete")
        delete_embedding.fn(person("1"))

    assert nearest_to("Grace") == []
    with pytest.raises(Exception, match="there is no person '1' of 'ada'"):
        generate_embedding.fn(person("1"))


def test_the_cleanup_removes_the_vectors_of_entities_that_are_gone_and_no_others(openai_server: OpenAIServer) -> None:
    for id in ("1", "2"):
        remember(person(id), {"name": id})
        generate_embedding.fn(person(id))
    remove(person("1"))

    cleanup_embeddings.fn()
    cleanup_embeddings.fn()

    assert nearest_to("1") == ["2"]


def test_many_are_embedded_five_at_a_time(openai_server: OpenAIServer) -> None:
    ids = [f"{n:02}" for n in range(12)]
    for id in ids:
        remember(person(id), {"name": id})

    bulk_embed.fn("ada", "person", ids)
    assert [len(texts) for texts in openai_server.embedded] == [5, 5, 2]
    assert drafts("ada", "person", ids, MODEL) == ([], [])

    bulk_embed.fn("ada", "person", ids)
    assert len(openai_server.embedded) == 3, "a second run asks nobody"


def test_a_bulk_goes_on_where_it_was_cut_off(openai_server: OpenAIServer) -> None:
    ids = [f"{n:02}" for n in range(12)]
    for id in ids:
        remember(person(id), {"name": id})
    openai_server.script = [openai_server.answer, BROKEN]

    with pytest.raises(Unavailable):
        bulk_embed.fn("ada", "person", ids)
    bulk_embed.fn("ada", "person", ids)

    assert [len(texts) for texts in openai_server.embedded] == [5, 5, 5, 2]


def test_what_cannot_be_embedded_is_named_and_the_others_are(openai_server: OpenAIServer) -> None:
    openai_server.poison = "hemlock"
    for id in ("a", "b", "c"):
        remember(person(id), {"name": "hemlock" if id == "b" else id})

    with pytest.raises(Failure, match=r"2 of 4 were not embedded: b: .* 400 .*; d: there is no such entity"):
        bulk_embed.fn("ada", "person", ["a", "b", "c", "d"])

    assert sorted(nearest_to("a")) == ["a", "c"]


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (BUSY, RateLimited, "answered 429"),
        (OVERLOADED, Retry, "answered 503"),
        (BROKEN, Unavailable, "answered 500"),
        (respond(502, "bad gateway"), Unavailable, "answered 502"),
        (cut_mid_body, Unavailable, "cannot be reached"),
        (respond(200, "<html>a proxy's page"), Unavailable, "another shape"),
        (respond(200, {"data": []}), Unavailable, "0 vectors for 1 texts"),
        (KEYLESS, Refused, r"answered 401 .*check OPENAI_BASE_URL, OPENAI_API_KEY"),
        (QUOTA, Refused, "no credit left"),
        (respond(404, {"error": {"code": "model_not_found"}}), Refused, "answered 404 .*the model's name"),
    ],
)
def test_each_answer_means_what_it_says(openai_server: OpenAIServer, answer: Any, kind: type, words: str) -> None:
    remember(person("1"), {"name": "Grace"})
    openai_server.answer = answer

    with pytest.raises(kind, match=words) as raised:
        generate_embedding.fn(person("1"))

    assert nearest_to("Grace") == []
    if isinstance(raised.value, RateLimited):
        assert raised.value.delay_ms == 7_000
    if isinstance(raised.value, Retry):
        assert raised.value.delay == 3_000


def test_a_key_that_is_refused_stops_a_bulk_at_its_first_request(openai_server: OpenAIServer) -> None:
    for id in ("a", "b"):
        remember(person(id), {"name": id})
    openai_server.answer = KEYLESS

    with pytest.raises(Refused, match="401"):
        bulk_embed.fn("ada", "person", ["a", "b"])
    assert len(openai_server.requests) == 1


def test_a_server_that_is_silent_is_given_up_after_the_timeout(openai_server: OpenAIServer) -> None:
    released = threading.Event()
    openai_server.answer = silent(released)
    client = OpenAI(openai_server.url, timeout_s=0.2, check="it")
    with pytest.raises(Unavailable, match=r"did not answer within 0\.2 s"):
        client.embed(MODEL, ["x"])
    released.set()
    client.close()


def test_without_an_endpoint_the_job_fails_and_says_what_to_set() -> None:
    remember(person("1"), {"name": "Grace"})
    with pytest.raises(NotConfigured, match=r"OPENAI_BASE_URL is not set.*; set it, and retry this job"):
        generate_embedding.fn(person("1"))


def test_vectors_of_another_model_or_length_are_not_compared(openai_server: OpenAIServer) -> None:
    remember(person("1"), {"name": "Grace"})
    generate_embedding.fn(person("1"))

    assert nearest("ada", vector("name: Grace"), model="another") == []
    assert nearest("ada", [1.0, 0.0], model=MODEL) == []


def test_a_busy_endpoint_costs_no_attempt_and_a_broken_one_does(kit: Hareline, openai_server: OpenAIServer) -> None:
    remember(person("1"), {"name": "Grace"})
    openai_server.script = [BUSY, BUSY, BROKEN]
    message = generate_embedding.send(person("1"))

    job = kit.wait_for(message, timeout=60, raises=False)
    assert job.state is State.COMPLETED
    assert job.attempts_spent == 2
    assert nearest_to("Grace") == ["1"]
