"""Rate limits as a machine: jobs ask, come back early, late or never; the model is a list of their starts."""

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, invariant, multiple, rule

from ledger.gcra import Line, Pace, Share, Slot, hush, reserve
from tests.machines import check

SECOND = 1_000_000
SOON = SECOND // 10
EVERYONE, EACH = Pace.of(4, 1.0, 4), Pace.of(1, 1.0, 1)


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

    @rule(target=waiting, user=st.sampled_from("ab"), jobs=st.integers(1, 4))
    def jobs_ask(self, user: str, jobs: int) -> MultipleResults[tuple[str, Slot]]:
        slots = [self.asks(user, None) for _ in range(jobs)]
        return multiple(*((user, slot) for slot in slots if slot is not None))

    @rule(target=waiting, job=consumes(waiting), late=st.sampled_from([-SECOND // 5, 0, SECOND // 50, 5 * SECOND]))
    def one_comes_back(self, job: tuple[str, Slot], late: int) -> MultipleResults[tuple[str, Slot]]:
        user, slot = job
        self.now = max(self.now, slot.at + late)
        again = self.asks(user, slot)
        return multiple() if again is None else multiple((user, again))

    @rule(for_=st.integers(0, 2 * SECOND))
    def time_goes_on(self, for_: int) -> None:
        self.now += for_

    @rule(user=st.sampled_from("ab"), for_=st.integers(1, SECOND))
    def the_other_side_asks_for_quiet(self, user: str, for_: int) -> None:
        hush(self.lines, self.now, [Share(user, "user", EACH)], {}, for_)
        self.quiet.append((self.now, self.now + for_, user))

    @invariant()
    def no_second_has_more_than_its_limits(self) -> None:
        assert _busiest([at for at, _ in self.starts]) <= 4 + 4
        for user in "ab":
            assert _busiest([at for at, who in self.starts if who == user]) <= 1 + 1

    @invariant()
    def what_started_is_paid_for(self) -> None:
        assert all(line.begun <= line.paid for line in self.lines.values())


def _busiest(starts: list[int]) -> int:
    starts = sorted(starts)
    return max((sum(at < first + SECOND for at in starts[n:]) for n, first in enumerate(starts)), default=0)


def test_starts_are_what_the_model_says_whoever_is_late() -> None:
    check(Limiter, steps=60)
