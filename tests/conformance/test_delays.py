"""Delays, pauses, and what an operator does about them."""

from dramatiq import group

from control.jobs import retry
from control.queues import pause, resume
from tests.conformance.system import System


def test_a_delayed_job_starts_when_it_is_due_and_not_before(system: System) -> None:
    @system.actor()
    def act(name: str) -> None:
        system.note(name)

    later = act.send_with_options(args=("later",), delay=400)
    sooner = act.send_with_options(args=("sooner",), delay=200)
    now = act.send("now")
    assert [system.state(x) for x in (later, sooner, now)] == ["delayed", "delayed", "waiting"]
    system.work()
    assert system.finished(3) == {"completed": 3}
    assert system.notes == ["now", "sooner", "later"]
    for message in (sooner, later):
        job = system.job(message)
        late_s = (job.attempts[0].started_at - job.run_at).total_seconds()
        assert 0 <= late_s < 5, "and a busy machine is forgiven"


def test_a_job_a_hundred_years_ahead_is_listed_and_can_be_run_now(system: System) -> None:
    @system.actor()
    def act() -> None:
        system.note("ran")

    message = act.send_with_options(delay=100 * 365 * 86_400_000)
    job = system.job(message)
    assert (job.run_at - job.created_at).days == 36_500
    system.work()
    retry(system.control, job.id, by="a test")
    assert system.finished(1) == {"completed": 1}


def test_a_paused_queue_starts_nothing_new_and_goes_on_when_it_is_resumed(system: System) -> None:
    gate = system.gate()

    @system.actor()
    def act(name: str) -> None:
        system.note(name)
        if name == "first":
            gate.wait(30)

    @system.actor(queue_name="narrow")
    def elsewhere() -> None:
        system.note("elsewhere")

    act.send("first")
    system.work()
    system.noted("first")
    pause(system.control, "work", by="a test")
    second = act.send("second")
    third = act.send_with_options(args=("third",), delay=20)
    elsewhere.send()
    system.noted("elsewhere")
    gate.set()
    system.until(lambda: system.queries.database_time() > system.job(third).run_at)
    system.until(lambda: system.states() == {"completed": 2, "waiting": 1, "delayed": 1})
    assert sorted(system.notes) == ["elsewhere", "first"]
    resume(system.control, "work", by="a test")
    assert system.finished(4) == {"completed": 4}
    assert {system.job(x).attempts_spent for x in (second, third)} == {1}


def test_a_pipeline_a_group_and_its_callback_are_run(system: System) -> None:
    @system.actor(store_results=True)
    def add(x: int, y: int) -> int:
        return x + y

    @system.actor()
    def done(word: str) -> None:
        system.note(word)

    pipe = (add.message(1, 2) | add.message(3) | add.message(4)).run()
    together = group([add.message(n, n) for n in range(4)])
    together.add_completion_callback(done.message("all"))
    together.run()
    system.work()
    assert system.finished(8) == {"completed": 8}
    assert pipe.get_result() == 10
    assert system.notes == ["all"]
