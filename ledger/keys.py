"""Who gets a key: the one decision, for both databases and for several jobs of one key in a batch."""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from ledger.records import Enqueued, Key, Mode, NewJob
from ledger.states import State

#: State and ticket of the jobs that were replaced, by their ids.
Replaced = Mapping[str, tuple[str, int]]


class Holder(NamedTuple):
    """A key's row, and what its job is doing; read under the key's lock."""

    job_id: str
    asked_id: str
    message_id: str
    state: str | None  #: None: the job is not among the live, nor among those at hand
    closed: bool  #: its time has not passed


class Plan:
    """What is to become of a batch of jobs, decided in their order.

    Parameters:
      known: ids of jobs that are recorded already: the same enqueue, once more.
    """

    def __init__(self, jobs: Iterable[NewJob], holders: Mapping[str, Holder], known: Collection[str]) -> None:
        self.new: dict[str, NewJob] = {}  #: to be inserted, by id
        self.replace: dict[str, NewJob] = {}  #: by the id of the job each takes the place of
        self.winners: dict[str, NewJob] = {}  #: who has the key at the end
        self._holders = holders
        self._lost: dict[str, NewJob | None] = {}  # id -> the job of this batch that has its place; None: the holder
        for job in jobs:
            if job.key is None or job.id in known:
                self.new[job.id] = job
            else:
                self._decide(job, job.key)

    def started(self, holder_id: str) -> None:
        """The job that was to be replaced has started meanwhile: a new one is recorded."""
        job = self.replace.pop(holder_id)
        self.new[job.id] = job

    def taken(self) -> list[tuple[str, str, NewJob, int | None]]:
        """Key, the job that holds it now, whose doing that is, and for how long at least, in milliseconds."""
        return [
            (digest, self._recorded_as(job, digest), job, job.key.within_ms if job.key else None)
            for digest, job in self.winners.items()
        ]

    def answer(self, job: NewJob, replaced: Replaced) -> Enqueued | None:
        """What became of a job that was not inserted, None of any other."""
        if job.key is not None and job.id in self._lost:
            place = self._lost[job.id]
            while place is not None and place.id in self._lost:
                place = self._lost[place.id]
            message_id = place.message_id if place else self._holders[job.key.digest].message_id
            id = self._recorded_as(place, job.key.digest)
            return Enqueued(id, State.WAITING, duplicate=True, message_id=message_id)
        holder = self._holders.get(job.key.digest) if job.key is not None else None
        if holder is None or self.replace.get(holder.job_id) is not job:
            return None
        state, ticket = replaced[holder.job_id]
        return Enqueued(holder.job_id, State(state), ticket=ticket, message_id=job.message_id)

    def _decide(self, job: NewJob, key: Key) -> None:
        holder, winner = self._holders.get(key.digest), self.winners.get(key.digest)
        if winner is not None and winner.key is not None:
            state: str | None = State.DELAYED if winner.delay_ms or winner.run_at else State.WAITING
            closed = bool(winner.key.within_ms)
        elif holder is not None:
            state, closed = holder.state, holder.closed
            if holder.asked_id == job.id != holder.job_id:  # the same enqueue, once more
                self._lost[job.id] = None
                return
        else:
            state, closed = None, False
        if is_refused(key, state, closed):
            self._lost[job.id] = winner
            return
        self.winners[key.digest] = job
        if key.mode is not Mode.REPLACE or state not in (State.WAITING, State.DELAYED):
            self.new[job.id] = job
        elif winner is None:
            assert holder is not None
            self.replace[holder.job_id] = job
        else:
            self._lost[winner.id] = job
            if self.new.pop(winner.id, None):
                self.new[job.id] = job
            else:
                assert holder is not None
                self.replace[holder.job_id] = job

    def _recorded_as(self, job: NewJob | None, digest: str) -> str:
        """The id under which a job that got its place is recorded: its own, or that of the holder it replaced."""
        holder = self._holders.get(digest)
        if job is not None and (holder is None or self.replace.get(holder.job_id) is not job):
            return job.id
        assert holder is not None
        return holder.job_id


def is_refused(key: Key, state: str | None, closed: bool) -> bool:
    """Whether a job with this key is not recorded, given the state of the holder and whether its time is running."""
    match key.mode:
        case Mode.THROTTLE:
            return closed
        case Mode.REJECT:
            return closed or state in key.states
        case Mode.REPLACE:
            return False
