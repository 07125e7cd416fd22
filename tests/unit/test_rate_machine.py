"""Rate limits as a machine: jobs ask, come back early, late or never; the model is a list of their starts."""

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from ledger.gcra import Line, Pace, Share, Slot, hush, reserve
from tests.machines import check

SECOND = 1_000_000
SOON = SECOND // 10
EVERYONE, EACH = Pace.of(5, 1.0, 2), Pace.of(2, 1.0, 1)


class Limiter(RuleBasedStateMachine):
    """Every job is of one user: one limit for all of them together, and one for each."""

    waiting = Bundle("waiting")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_700_000_000 * SECOND
        self.lines: dict[str, Line] = {}
        self.starts: list[tuple[int, str]] = []
        self.quiet: list[tuple[int, int, str]] = []  # from, until, whom no new start is reserved for

    def asks(self, user: str, held: Slot | None) -> Slot | None:
        """The slot it is to come back at; None: it starts."""
        shares = [Share("all", "all", EVERYONE), Share(user, "user", EACH)]
        before = {key: (line.paid, line.begun) for key, line in self.lines.items()}
        slot = reserve(self.lines, self.now, shares, {}, held, soon=SOON)
        assert slot.at >= self.now
        assert held is None or slot.at >= held.at, "never before what it was promised"
        assert all(self.lines[key].paid >= paid for key, (paid, _) in before.items())
        if slot.at - self.now > SOON:
            return slot
        if held is None:
            assert not any(begin <= self.now and slot.at < until and user == who for begin, until, who in self.quiet)
        self.starts.append((slot.at, user))
        return None

    @rule(target=waiting, user=st.sampled_from("abc"))
    def a_job_asks(self, user: str) -> tuple[str, Slot | None]:
        return user, self.asks(user, None)

    @rule(target=waiting, job=consumes(waiting), late=st.integers(-SECOND // 5, 3 * SECOND))
    def it_comes_back(self, job: tuple[str, Slot | None], late: int) -> tuple[str, Slot | None]:
        user, slot = job
        if slot is None:
            return job
        self.now = max(self.now, slot.at + late)
        return user, self.asks(user, slot)

    @rule(for_=st.integers(0, 2 * SECOND))
    def time_goes_on(self, for_: int) -> None:
        self.now += for_

    @rule(user=st.sampled_from("abc"), for_=st.integers(1, SECOND))
    def the_other_side_asks_for_quiet(self, user: str, for_: int) -> None:
        hush(self.lines, self.now, [Share(user, "user", EACH)], {}, for_)
        self.quiet.append((self.now, self.now + for_, user))

    @invariant()
    def no_second_has_more_than_its_limits(self) -> None:
        assert _busiest([at for at, _ in self.starts]) <= 5 + 2
        for user in "abc":
            assert _busiest([at for at, who in self.starts if who == user]) <= 2 + 1

    @invariant()
    def what_started_is_paid_for(self) -> None:
        assert all(line.begun <= line.paid for line in self.lines.values())


def _busiest(starts: list[int]) -> int:
    starts = sorted(starts)
    return max((sum(at < first + SECOND for at in starts[n:]) for n, first in enumerate(starts)), default=0)


def test_starts_are_what_the_model_says_whoever_is_late() -> None:
    check(Limiter, steps=60)
