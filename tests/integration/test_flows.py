"""Flows in the ledger, on both databases: every transition in one transaction, counted once."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from uuid_utils import uuid7

from errors import FlowNotFound, IllegalTransition, UnknownSignal
from ledger.flows.graph import Graph, Kind, Node
from ledger.flows.states import FlowState, StepEnd
from ledger.flows.store import NewFlow
from ledger.migrate import Migrations
from ledger.queries import Queries
from ledger.records import Claim, Finish, Finished, Keep, Ticket, Verdict
from ledger.states import Outcome
from ledger.tables import flow_jobs, flow_steps, flow_values, flows, jobs, journal
from tests.ledger_under_test import LedgerUnderTest, new_job
from tests.servers import Postgres


def run(name: str, *after: str, policy: str = "fail", **more: Any) -> Node:
    parents = {parent: more.get("edge", policy) for parent in after}
    more.pop("edge", None)
    return Node(name, str(Kind.RUN), parents, policy, actor=name, queue="q", **more)


def undo(name: str) -> Node:
    return Node(f"undo {name}", str(Kind.UNDO), undoes=name, actor=f"un{name}", queue="q")


class FlowsUnderTest(LedgerUnderTest):
    """Runs the jobs of flows by hand."""

    def start(self, *nodes: Node, key: str | None = None, **arguments: Any) -> str:
        values = {name: json.dumps(value).encode() for name, value in arguments.items()}
        self.flow, _ = self.session.start_flow(NewFlow(str(uuid7()), Graph("w", nodes), key, values))
        return self.flow

    def live(self) -> dict[str, list[str]]:
        """The live jobs of the flow, by step, in the order of items."""
        query = select(flow_jobs).where(flow_jobs.c.flow_id == self.flow, flow_jobs.c.state == "live")
        found: dict[str, list[str]] = {}
        with self.database.read() as connection:
            for row in connection.execute(query.order_by(flow_jobs.c.step, flow_jobs.c.item)):
                found.setdefault(row.step, []).append(row.job_id)
        return found

    def step_of(self, job: str) -> StepEnd:
        with self.database.read() as connection:
            row = connection.execute(select(flow_jobs).where(flow_jobs.c.job_id == job)).one()
        return StepEnd(row.flow_id, row.step, row.item)

    def claimed(self, job: str) -> Claim:
        with self.database.read() as connection:
            row = connection.execute(select(jobs.c.ticket, jobs.c.queue).where(jobs.c.id == job)).one()
        [claim] = self.session.claim(self.worker, [Ticket(job, row.ticket, row.queue)])
        assert claim.verdict is Verdict.RUN, claim
        return claim

    def ending(self, job: str, outcome: Outcome = Outcome.COMPLETED, result: Any = None) -> Finish:
        end = self.step_of(job)
        body = None if result is None else json.dumps(result).encode()
        end = StepEnd(end.flow, end.step, end.item, body, bool(result))
        return Finish(job, self.claimed(job).epoch, outcome, error_type="E" if outcome == "failed" else None, step=end)

    def end(self, step: str, outcome: Outcome = Outcome.COMPLETED, result: Any = None) -> list[Finished]:
        """All live jobs of a step end, in one batch."""
        return self.session.finish(self.worker, [self.ending(job, outcome, result) for job in self.live()[step]])

    def state(self, *_: Any) -> Any:
        with self.database.read() as connection:
            return connection.scalar(select(flows.c.state).where(flows.c.id == self.flow))

    def states(self) -> dict[str, str]:
        query = select(flow_steps.c.step, flow_steps.c.state).where(flow_steps.c.flow_id == self.flow)
        with self.database.read() as connection:
            return {name: state for name, state in connection.execute(query) if not name.startswith("undo ")}

    def pass_time(self) -> None:
        """What flows wait for is due."""
        with self.database.write() as connection:
            past = self.database.time(connection) - timedelta(seconds=1)
            connection.execute(update(flow_steps).where(flow_steps.c.due_at.is_not(None)).values(due_at=past))

    def messages(self, step: str) -> list[dict[str, Any]]:
        queries = Queries(self.url)
        views = [queries.job(job) for job in self.live()[step]]
        queries.close()
        return [json.loads(view.body) for view in views if view is not None]

    def lines(self, event: str) -> list[str]:
        with self.database.read() as connection:
            return list(connection.scalars(select(journal.c.actor).where(journal.c.event == event)))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('flows') / 'ledger.db'}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.create_database()
    Migrations(url).upgrade()
    return url


@pytest.fixture
def ledger(url: str) -> Iterator[FlowsUnderTest]:
    found = FlowsUnderTest(url, "embedded" if url.startswith("sqlite") else "rabbitmq")
    yield found
    found.close()


def test_steps_follow_each_other_and_a_join_waits_for_all(ledger: FlowsUnderTest) -> None:
    ledger.start(run("a"), run("b", "a"), run("c", "a"), run("d", "b", "c"))
    assert ledger.live().keys() == {"a"}
    [answer] = ledger.end("a")
    assert {job.actor for job in answer.send} == {"b", "c"}, "what it made is sent on at once"
    ledger.end("b")
    assert ledger.live().keys() == {"c"}
    ledger.end("c")
    assert ledger.live().keys() == {"d"}
    ledger.end("d")
    assert ledger.state() == "completed"


def test_two_that_end_in_one_batch_are_joined_once(ledger: FlowsUnderTest) -> None:
    ledger.start(run("a"), run("b"), run("c", "a", "b"))
    endings = [ledger.ending(job) for found in ledger.live().values() for job in found]
    ledger.session.finish(ledger.worker, endings)
    assert {name: len(found) for name, found in ledger.live().items()} == {"c": 1}


def test_a_finish_told_twice_counts_once(ledger: FlowsUnderTest) -> None:
    ledger.start(run("a", each=("x", "xs")), run("b", "a"), xs=[1, 2])
    first, second = ledger.live()["a"]
    ending = ledger.ending(first, result=10)
    for _ in range(3):
        assert ledger.session.finish(ledger.worker, [ending])[0].accepted
    assert ledger.live().keys() == {"a"}
    ledger.session.finish(ledger.worker, [ledger.ending(second, result=20)])
    assert ledger.live().keys() == {"b"}


def test_each_item_has_a_job_with_that_item_and_results_keep_their_order(ledger: FlowsUnderTest) -> None:
    flow = ledger.start(run("list"), run("a", "list", each=("x", "list")), run("b", "a"))
    ledger.end("list", result=["p", "q", "r"])
    assert [message["kwargs"] for message in ledger.messages("a")] == [{"x": "p"}, {"x": "q"}, {"x": "r"}]
    for number, job in reversed(list(enumerate(ledger.live()["a"]))):
        ledger.session.finish(ledger.worker, [ledger.ending(job, result=number or None)])
    assert ledger.session.flow_results(flow, "a", -1, 10) == [(0, None), (1, b"1"), (2, b"2")]
    assert ledger.session.flow_results(flow, "a", 0, 1) == [(1, b"1")]
    assert ledger.session.count_flow_results(flow, "a") == 3
    assert ledger.live().keys() == {"b"}


def test_ten_thousand_items_are_recorded_in_one_transaction(ledger: FlowsUnderTest) -> None:
    ledger.start(run("a", each=("x", "xs")), run("b", "a"), xs=list(range(10_000)))
    assert len(ledger.live()["a"]) == 10_000


@pytest.mark.parametrize(("items", "state"), [([], "completed"), ("abc", "failed"), ({"a": 1}, "failed")])
def test_no_items_end_a_step_at_once_and_what_is_no_list_fails_it(
    ledger: FlowsUnderTest, items: Any, state: str
) -> None:
    ledger.start(run("a", each=("x", "xs")), run("b", "a"), xs=items)
    assert ledger.states()["a"] == state
    assert ledger.live().keys() == ({"b"} if state == "completed" else set())


def test_a_failure_stops_what_comes_after_and_what_runs_beside_may_end(ledger: FlowsUnderTest) -> None:
    ledger.start(run("a"), run("beside"), run("b", "a"), run("c", "beside"))
    ledger.end("a", Outcome.FAILED)
    assert ledger.state() == "failing"
    ledger.end("beside")
    assert ledger.state() == "failed"
    assert ledger.states() == {"a": "failed", "beside": "completed", "b": "cancelled", "c": "cancelled"}


def test_a_retry_is_no_failure(ledger: FlowsUnderTest) -> None:
    ledger.start(run("a"))
    ledger.end("a", Outcome.RETRYING)
    assert (ledger.state(), ledger.states()) == ("running", {"a": "running"})


def test_an_edge_may_go_on_after_a_failure(ledger: FlowsUnderTest) -> None:
    ledger.start(run("a", policy="continue"), run("b", "a", edge="continue"))
    ledger.end("a", Outcome.FAILED)
    ledger.end("b")
    assert (ledger.state(), ledger.states()) == ("completed", {"a": "failed", "b": "completed"})


def test_one_item_that_fails_fails_its_step_once_all_have_ended(ledger: FlowsUnderTest) -> None:
    flow = ledger.start(run("a", policy="continue", each=("x", "xs")), run("b", "a", edge="continue"), xs=[1, 2, 3])
    first, *others = ledger.live()["a"]
    ledger.session.finish(ledger.worker, [ledger.ending(first, Outcome.FAILED)])
    assert (ledger.state(), ledger.states()["a"]) == ("running", "running")
    ledger.session.finish(ledger.worker, [ledger.ending(job, result=1) for job in others])
    assert ledger.states()["a"] == "failed"
    assert ledger.session.flow_results(flow, "a", -1, 10) == [(1, b"1"), (2, b"1")], "without the one that failed"
    assert ledger.live().keys() == {"b"}


def test_what_was_done_is_undone_one_after_the_other_the_last_step_first(ledger: FlowsUnderTest) -> None:
    more = {"policy": "compensate"}
    ledger.start(run("a", **more), run("b", "a", **more), run("c", "b", **more), undo("a"), undo("b"), undo("c"))
    ledger.end("a")
    ledger.end("b")
    ledger.end("c", Outcome.FAILED)
    assert (ledger.state(), set(ledger.live())) == ("compensating", {"undo b"}), "of c there is nothing to undo"
    ledger.end("undo b", Outcome.FAILED)
    assert ledger.live().keys() == {"undo a"}, "one that fails does not keep the others from it"
    ledger.end("undo a")
    assert ledger.state() == "failed"
    with pytest.raises(IllegalTransition, match="was undone"):
        ledger.session.retry_flow(ledger.flow, "me")


@pytest.mark.parametrize(("result", "ran"), [(True, {"yes", "after"}), (0, {"no", "after"})])
def test_a_condition_lets_one_branch_run(ledger: FlowsUnderTest, result: Any, ran: set[str]) -> None:
    no = run("no", "is", when="is", holds=False)
    ledger.start(run("is"), run("yes", "is", when="is"), no, run("after", "yes", "no"))
    ledger.end("is", result=result)
    [branch] = ledger.live()
    ledger.end(branch)
    ledger.end("after")
    states = ledger.states()
    assert {name for name, state in states.items() if state == "completed"} == ran | {"is"}
    assert sorted(states.values()).count("skipped") == 1
    assert ledger.state() == "completed"


def waiting(timeout_ms: int | None = None) -> list[Node]:
    return [run("a"), Node("go", str(Kind.WAIT), {"a": "fail"}, signal="go", delay_ms=timeout_ms), run("b", "go")]


def test_a_signal_lets_a_step_go_on_and_only_the_first_counts(ledger: FlowsUnderTest) -> None:
    flow = ledger.start(*waiting())
    ledger.end("a")
    assert (ledger.live(), ledger.state()) == ({}, "running"), "nothing is held while it waits"
    first, send = ledger.session.signal_flow(flow, "go", b'{"by": "Ada"}', "me")
    assert first
    assert [job.actor for job in send] == ["b"]
    assert not ledger.session.signal_flow(flow, "go", b"null", "me")[0]
    assert ledger.session.flow_value(flow, "go") == b'{"by": "Ada"}'
    assert ledger.lines("flow signalled") == ["me"]


def test_a_signal_that_comes_before_it_is_awaited_is_kept(ledger: FlowsUnderTest) -> None:
    flow = ledger.start(*waiting())
    assert ledger.session.signal_flow(flow, "go", b"1", "me")[0]
    ledger.end("a")
    assert ledger.live().keys() == {"b"}


def test_a_signal_nobody_waits_for_is_refused_and_so_is_a_flow_nobody_knows(ledger: FlowsUnderTest) -> None:
    flow = ledger.start(*waiting())
    with pytest.raises(UnknownSignal, match="there are: go"):
        ledger.session.signal_flow(flow, "stop", b"1", "me")
    for unknown in (str(uuid7()), "nonsense"):
        with pytest.raises(FlowNotFound):
            ledger.session.signal_flow(unknown, "go", b"1", "me")
        with pytest.raises(FlowNotFound):
            ledger.session.cancel_flow(unknown, "me")


def test_a_wait_that_lasts_too_long_fails_and_a_signal_after_that_comes_too_late(ledger: FlowsUnderTest) -> None:
    flow = ledger.start(*waiting(60_000))
    ledger.end("a")
    assert not ledger.session.wake_flows(10)
    assert ledger.state() == "running", "it has a minute"
    ledger.pass_time()
    ledger.session.wake_flows(10)
    assert (ledger.state(), ledger.states()["go"]) == ("failed", "failed")
    assert not ledger.session.signal_flow(flow, "go", b"1", "me")[0]


def test_a_sleep_holds_nothing_and_ends_once(ledger: FlowsUnderTest) -> None:
    ledger.start(Node("nap", str(Kind.SLEEP), delay_ms=60_000), run("b", "nap"))
    assert (ledger.live(), ledger.session.wake_flows(10)) == ({}, ())
    ledger.pass_time()
    assert [job.actor for job in ledger.session.wake_flows(10)] == ["b"]
    assert not ledger.session.wake_flows(10)
    assert len(ledger.live()["b"]) == 1


def test_a_cancelled_flow_starts_nothing_more(ledger: FlowsUnderTest) -> None:
    flow = ledger.start(run("a", each=("x", "xs")), run("b", "a"), xs=[1, 2, 3])
    running = ledger.live()["a"][0]
    ending = ledger.ending(running)
    assert ledger.session.cancel_flow(flow, "me") is FlowState.CANCELLING
    assert ledger.live() == {"a": [running]}, "the one that runs is asked to stop"
    with ledger.database.read() as connection:
        found = connection.execute(select(jobs.c.state, jobs.c.cancel_requested).order_by(jobs.c.id)).all()
    assert sorted((state, bool(asked)) for state, asked in found) == [
        ("active", True),
        ("cancelled", False),
        ("cancelled", False),
    ]
    ledger.session.finish(ledger.worker, [ending])
    assert (ledger.state(), ledger.states()) == ("cancelled", {"a": "cancelled", "b": "cancelled"})
    assert ledger.lines("flow cancelled") == ["me"]
    with pytest.raises(IllegalTransition, match="it is over"):
        ledger.session.cancel_flow(flow, "me")


def test_a_cancel_ends_sleeps_and_waits(ledger: FlowsUnderTest) -> None:
    flow = ledger.start(Node("nap", str(Kind.SLEEP), delay_ms=60_000), run("b", "nap"))
    assert ledger.session.cancel_flow(flow, "me") is FlowState.CANCELLED
    ledger.pass_time()
    assert not ledger.session.wake_flows(10)


def test_a_retry_gives_new_jobs_to_what_failed_and_keeps_the_rest(ledger: FlowsUnderTest) -> None:
    flow = ledger.start(run("a", each=("x", "xs")), run("b", "a"), xs=[1, 2, 3])
    first, second, third = ledger.live()["a"]
    ends = [ledger.ending(first, result=1), ledger.ending(second, Outcome.FAILED), ledger.ending(third, result=3)]
    ledger.session.finish(ledger.worker, ends)
    assert ledger.state() == "failed"
    steps, send = ledger.session.retry_flow(flow, "me")
    assert steps == ["a", "b"]
    assert len(send) == 1
    [again] = ledger.live()["a"]
    assert again not in (first, second, third)
    assert [message["kwargs"] for message in ledger.messages("a")] == [{"x": 2}]
    ledger.end("a", result=2)
    assert [body for _, body in ledger.session.flow_results(flow, "a", -1, 10)] == [b"1", b"2", b"3"]
    ledger.end("b")
    assert ledger.state() == "completed"
    assert ledger.lines("flow retried") == ["me"]
    with pytest.raises(IllegalTransition, match="only one that failed"):
        ledger.session.retry_flow(flow, "me")


def test_a_cancelled_flow_goes_on_when_it_is_retried(ledger: FlowsUnderTest) -> None:
    flow = ledger.start(run("a"), run("b", "a"))
    ledger.end("a")
    ledger.session.cancel_flow(flow, "me")
    ledger.session.retry_flow(flow, "me")
    ledger.end("b")
    assert (ledger.state(), ledger.states()) == ("completed", {"a": "completed", "b": "completed"})


def test_a_flow_goes_by_the_definition_it_was_started_with(ledger: FlowsUnderTest) -> None:
    old = ledger.start(run("a"), run("b", "a"))
    ledger.start(run("a"), run("c", "a"))
    ledger.flow = old
    ledger.end("a")
    assert ledger.live().keys() == {"b"}
    versions = Queries(ledger.url)
    found = versions.flows()
    versions.close()
    assert len({row.version for row in found}) == 2


def test_a_key_starts_one_flow(ledger: FlowsUnderTest) -> None:
    first = ledger.start(run("a"), key="order-1")
    assert ledger.start(run("a"), key="order-1") == first
    assert ledger.start(run("a"), key="order-2") != first
    with ledger.database.read() as connection:
        assert len(connection.execute(select(jobs.c.id)).all()) == 2


def test_a_start_whose_answer_was_lost_starts_once(ledger: FlowsUnderTest) -> None:
    new = NewFlow(str(uuid7()), Graph("w", [run("a")]))
    assert ledger.session.start_flow(new)[0] == ledger.session.start_flow(new)[0] == new.id
    with ledger.database.read() as connection:
        assert len(connection.execute(select(jobs.c.id)).all()) == 1


@pytest.mark.parametrize("how", ["cancelled", "failed", "gone"])
def test_a_job_that_ended_without_a_finish_is_noticed(ledger: FlowsUnderTest, how: str) -> None:
    ledger.start(run("a"), run("b", "a"))
    [job] = ledger.live()["a"]
    assert not ledger.session.settle_flows(10)
    with ledger.database.write() as connection:
        if how == "gone":
            connection.execute(jobs.delete().where(jobs.c.id == job))
        else:
            now = ledger.database.time(connection)
            connection.execute(update(jobs).where(jobs.c.id == job).values(state=how, finished_at=now))
    ledger.session.settle_flows(10)
    assert (ledger.state(), ledger.states()) == ("failed", {"a": "failed", "b": "cancelled"})


def test_a_finish_that_fails_leaves_the_flow_where_it_was(
    ledger: FlowsUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.start(run("a"), run("b", "a"))
    ending = ledger.ending(ledger.live()["a"][0])

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr("ledger.flows.drive._job" if ledger.database.sqlite else "ledger.flows.drive._hire", refuse)
        with pytest.raises(RuntimeError):
            ledger.session.finish(ledger.worker, [ending])
    assert (ledger.states(), set(ledger.live())) == ({"a": "running", "b": "waiting"}, {"a"})
    ledger.session.finish(ledger.worker, [ending])
    assert ledger.live().keys() == {"b"}


def test_flows_that_are_over_are_forgotten_after_a_time(ledger: FlowsUnderTest) -> None:
    flow = ledger.start(run("a"), x=1)
    ledger.end("a", result=1)
    live = ledger.start(run("a"))
    retain: Callable[[], int] = lambda: ledger.session.retain({}, Keep(), history_s=0.0)  # noqa: E731
    retain()
    assert ledger.state() == "running"
    with ledger.database.write() as connection:
        past = ledger.database.time(connection) - timedelta(days=8)
        connection.execute(update(flows).where(flows.c.id == flow).values(finished_at=past))
    retain()
    with ledger.database.read() as connection:
        for table in (flow_steps, flow_jobs):
            assert {row.flow_id for row in connection.execute(select(table))} == {live}
        assert connection.execute(select(flow_values)).all() == []
        assert list(connection.scalars(select(flows.c.id))) == [live]


def test_a_plain_job_asks_nothing_of_flows(ledger: FlowsUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    job = new_job()
    ledger.session.enqueue([job])
    [claim] = ledger.session.claim(ledger.worker, [Ticket(job.id, 1, "q")])

    def never(*_: object) -> None:
        raise AssertionError("a plain job's finish looks at flows")

    monkeypatch.setattr("ledger.flows.drive.settle", never)
    assert ledger.session.finish(ledger.worker, [Finish(job.id, claim.epoch, Outcome.COMPLETED)])[0].accepted
