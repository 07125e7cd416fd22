"""Claimed jobs on their way into a process, and those whose way ends early."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from dramatiq.message import Message

from broker.intake import Intake
from broker.work import WorkQueue
from ledger.records import Claim, Finished, Verdict
from middleware.attempt import JobMessage


@dataclass
class Told:
    """What an intake told its road and its recorder."""

    begun: list[Intake] = field(default_factory=list)
    room: list[Any] = field(default_factory=list)
    paces: list[Intake] = field(default_factory=list)
    released: list[tuple[str, int]] = field(default_factory=list)
    forgotten: list[tuple[str, int]] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    work: WorkQueue = field(default_factory=lambda: WorkQueue(lambda: 0))

    def intake(self, slots: int) -> Intake:
        return Intake(
            "work",
            slots,
            0.01,
            self.work,
            begin=self.begun.append,
            on_room=lambda intake, arrival: self.room.append(arrival),
            on_pace=self.paces.append,
            release=lambda job, epoch: self.released.append((job, epoch)),
            forget=lambda job, epoch: self.forgotten.append((job, epoch)),
        )

    def job(self, id: str) -> JobMessage:
        def settle(job: JobMessage, answer: Finished | None) -> None:
            self.settled.append(job.claim.id)

        message: Message[None] = Message("work", "act", (), {}, {})
        return JobMessage(message, Claim(id, Verdict.RUN, epoch=1), settle=settle)


def test_nothing_comes_before_dramatiq_knows_the_intake() -> None:
    # Else a short job could end before: nobody would be told, and its slot would be lost for ever.
    told = Told()
    intake = told.intake(1)
    assert told.begun == []
    iter(intake)
    assert told.begun == [intake]


def test_what_arrives_while_all_slots_are_taken_is_held_back_until_one_is_free() -> None:
    told = Told()
    intake = told.intake(1)
    assert intake.reserve("first")
    assert not intake.reserve("second")
    intake.vacate()
    assert told.room == ["second"], "the slot went from one to the other"
    intake.vacate()
    assert (told.room, intake.room) == (["second", None], 1)


def quick(told: Told, slots: int) -> Intake:
    """An intake that has seen enough short jobs to claim ahead."""
    intake = told.intake(slots)
    while not told.paces:
        run_one(told, intake)
    return intake


def run_one(told: Told, intake: Intake) -> None:
    assert intake.reserve()
    intake.admit(told.job("short"))
    ended = told.work.get_nowait()
    ended.submitted = True
    intake.ack(ended)


def test_as_many_again_are_claimed_ahead_while_jobs_are_short_and_no_more_run(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    intake = told.intake(2)
    assert (intake.room, intake.prefetch) == (2, 2)
    intake = quick(told, 2)
    assert (told.paces, intake.room, intake.prefetch) == ([intake], 4, 8)
    for name in "abcd":
        assert intake.reserve()
        intake.admit(told.job(name))
    assert not intake.reserve("one too many")
    running = [told.work.get_nowait(), told.work.get_nowait()]
    assert told.work.empty(), "two run, two are claimed ahead"
    running[1].submitted = True
    intake.ack(running[1])
    assert told.work.get_nowait().claim.id == "c", "its slot is the next one's at once"
    assert told.room[-1] == "one too many"
    monkeypatch.setattr("broker.intake.SHORT_S", 0.0)
    running[0].submitted = True
    intake.ack(running[0])
    assert (told.paces, intake.prefetch) == ([intake, intake], 2), "jobs are long by now: claimed for free slots only"


def test_what_waits_too_long_is_given_back_and_nothing_taken_until_a_slot_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Told()
    intake = quick(told, 1)
    for name in "ab":
        assert intake.reserve()
        intake.admit(told.job(name))
    assert not intake.reserve("held back")
    long = told.work.get_nowait()
    next(intake)
    assert told.released == [], "it has patience"
    monkeypatch.setattr("broker.intake.PATIENCE_S", 0.0)
    next(intake)
    assert (told.released, intake.prefetch, intake.room) == ([("b", 1)], 0, 0)
    assert intake.drain() == ["held back"], "the road returns it, now that it is told"
    long.submitted = True
    intake.ack(long)
    assert (intake.prefetch, intake.room) == (1, 1)
    assert told.paces == [intake] * 3


def test_a_job_claimed_while_the_worker_stops_goes_back_at_once() -> None:
    told = Told()
    intake = told.intake(2)
    intake.admit(told.job("early"))
    assert intake.stop() == []
    intake.admit(told.job("late"))
    assert told.work.get_nowait().claim.id == "early", "the worker's shutdown returns it from there"
    assert told.work.empty()
    assert told.released == [("late", 1)]
    assert told.settled == ["late"]


def test_a_job_whose_end_could_not_be_recorded_is_not_held_for_ever() -> None:
    told = Told()
    intake = told.intake(1)
    assert intake.reserve()
    intake.ack(told.job("unrecorded"))
    assert told.forgotten == [("unrecorded", 1)]
    assert told.settled == ["unrecorded"]
    assert intake.room == 1


def test_a_closed_intake_has_the_road_take_back_what_it_holds_and_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    intake = quick(told, 1)
    for name in "ab":
        assert intake.reserve()
        intake.admit(told.job(name))
    assert not intake.reserve("held back")
    intake.close()
    assert (told.paces, intake.prefetch, intake.room, told.released) == ([intake, intake], 0, 0, [("b", 1)])
    assert intake.drain() == ["held back"], "the road returns it, now that it is told"
    assert not intake.reopen(WorkQueue(lambda: 0)), "another worker has an intake of its own"
    assert intake.reopen(told.work)
    assert intake.room == 1, "one runs still, and one may be claimed ahead"
    running = told.work.get_nowait()
    running.submitted = True
    intake.ack(running)
    assert intake.room == 2


def test_a_job_that_was_being_claimed_when_the_intake_closed_takes_no_room_afterwards() -> None:
    told = Told()
    intake = told.intake(1)
    assert intake.reserve()
    intake.close()
    intake.admit(told.job("late"))
    assert told.released == [("late", 1)]
    assert intake.reopen(told.work)
    assert intake.room == 1


def test_an_intake_that_rests_is_woken_by_being_given_more_slots_and_by_no_fewer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.intake.PATIENCE_S", 0.0)
    told = Told()
    intake = told.intake(2)
    assert intake.reserve("long")
    assert intake.reserve("longer")
    assert not intake.reserve("held back")
    next(intake)
    assert (intake.prefetch, intake.drain()) == (0, ["held back"])
    intake.resize(1)
    assert intake.prefetch == 0, "both run still"
    intake.resize(4)
    assert (intake.prefetch, intake.room) == (4, 2)
    assert told.paces == [intake] * 3
