"""Questions to a model: asked once, kept, billed once."""

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from actors.database import database
from actors.llm import Message, Question, Reply, find, llm_request, queue_llm_request
from actors.priorities import Priority
from actors.tables import bills, usage_events
from errors import InvalidPayload
from hareline_testing import Hareline
from ledger.states import State
from tests.scripted import BROKEN, BUSY, QUOTA, Answer, OpenAIServer, respond

pytestmark = pytest.mark.one_database


def test_a_question_is_answered_and_its_usage_is_billed_once(kit: Hareline, openai_server: OpenAIServer) -> None:
    for _ in range(2):
        sent = queue_llm_request("gpt-4o", "Hello", user="ada", customer="northwind", request_id="req_1")
        kit.drain()
        assert sent.result(timeout=0) == {
            "request_id": "req_1",
            "text": "You said: Hello",
            "finish_reason": "stop",
            "input_tokens": 1000,
            "output_tokens": 100,
        }

    [(path, asked)] = openai_server.requests
    assert (path, asked) == (
        "/v1/chat/completions",
        {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]},
    )
    [headers] = openai_server.headers
    assert headers["Idempotency-Key"] == "req_1"
    assert headers["Authorization"] == "Bearer sk-test"
    with database().read() as connection:
        assert connection.execute(select(bills.c.customer, bills.c.amount, bills.c.events)).all() == [
            ("northwind", Decimal("0.003"), 1)
        ]
        assert connection.scalar(select(usage_events.c.cached_tokens)) == 400


def test_the_answer_is_asked_for_again_while_the_model_is_busy_or_broken(
    kit: Hareline, openai_server: OpenAIServer
) -> None:
    openai_server.script = [BUSY, BROKEN]
    sent = queue_llm_request("gpt-4o", "Hello", request_id="req_1", priority=Priority.CRITICAL)

    job = kit.wait_for(sent, raises=False)
    assert (job.state, job.attempts_spent, job.priority) == (State.COMPLETED, 2, 1)
    assert find("req_1") == Reply(
        request_id="req_1", text="You said: Hello", finish_reason="stop", input_tokens=1000, output_tokens=100
    )


def answer(text: str | None, why: str) -> Answer:
    said = {"model": "gpt-4o", "choices": [{"message": {"content": text}, "finish_reason": why}]}
    return respond(200, said | {"usage": {"prompt_tokens": 90_000, "completion_tokens": 4_000}})


def test_an_answer_that_no_database_takes_is_kept_and_asked_for_once(
    actors_here: Any, openai_server: OpenAIServer
) -> None:
    openai_server.answer = answer("a \0 in it", "stop")
    question = Question(request_id="req_1", model="gpt-4o", messages=[Message(role="user", content="?")])
    assert [llm_request.fn(question).text for _ in range(2)] == ["a \N{REPLACEMENT CHARACTER} in it"] * 2
    assert len(openai_server.requests) == 1


def test_an_answer_without_a_text_is_paid_for_once_and_billed(kit: Hareline, openai_server: OpenAIServer) -> None:
    openai_server.answer = answer(None, "content_filter")
    sent = queue_llm_request("gpt-4o", "Hello", customer="northwind", request_id="req_1")
    assert kit.wait_for(sent, raises=False).state is State.COMPLETED
    kit.drain()
    reply = find("req_1")
    assert reply is not None
    assert (reply.text, reply.finish_reason, len(openai_server.requests)) == ("", "content_filter", 1)
    with database().read() as connection:
        used = connection.execute(select(usage_events.c.customer, usage_events.c.input_tokens)).all()
        assert used == [("northwind", 90_000)]
        assert connection.scalar(select(bills.c.events)) == 1


def test_whatever_a_request_is_called_the_model_is_asked(kit: Hareline, openai_server: OpenAIServer) -> None:
    sent = queue_llm_request("gpt-4o", "Hello", request_id="Müller GmbH/1")
    assert kit.wait_for(sent, raises=False).state is State.COMPLETED
    [headers] = openai_server.headers
    assert headers["Idempotency-Key"] == "M%C3%BCller%20GmbH/1"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (QUOTA, "no credit left"),
        (respond(400, {"error": {"message": "context length exceeded"}}), "context length exceeded"),
    ],
)
def test_what_the_model_refuses_is_a_dead_letter_at_once(
    kit: Hareline, openai_server: OpenAIServer, said: Answer, words: str
) -> None:
    openai_server.answer = said
    sent = queue_llm_request("gpt-4o", "Hello")

    job = kit.wait_for(sent, raises=False)
    assert (job.state, len(openai_server.requests)) == (State.FAILED, 1)
    assert words in str(job.attempts[-1].error_message)


def test_a_question_that_is_none_is_refused_where_it_is_sent(kit: Hareline) -> None:
    with pytest.raises(InvalidPayload, match="messages"):
        llm_request.send({"request_id": "r", "model": "gpt-4o", "messages": []})  # type: ignore[arg-type]
