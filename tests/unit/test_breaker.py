"""A circuit against a model that keeps every call."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger.breaker import PARTS, Breaker, Calls, Rule, Standing, closed, count, held, parts_of, text_of

SECOND = 1_000_000
RULE = Rule(0.5, 4, 10 * SECOND, 2 * SECOND, 15 * SECOND, 1)


def called(breaker: Breaker, now: int, *, ok: int = 0, failed: int = 0, term: int | None = None) -> Breaker:
    return count(
        breaker,
        now,
        Calls("c", RULE, breaker.term if term is None else term, ok + failed, failed, "ConnectError" if failed else ""),
    )


@dataclass
class Call:
    at: int
    failed: bool


class Circuits(RuleBasedStateMachine):
    """The model: what a person who had watched every call would say."""

    @initialize(
        failures=st.sampled_from([0.1, 0.5, 1.0]),
        of=st.integers(1, 8),
        open_for=st.integers(1, 5),
        twice=st.integers(0, 4),
    )
    def describe(self, failures: float, of: int, open_for: int, twice: int) -> None:
        self.rule = Rule(failures, of, 10 * SECOND, open_for * SECOND, open_for * 2**twice * SECOND, 1)
        self.now = 1_700_000_000 * SECOND
        self.breaker = Breaker()
        self.term = 0
        self.calls: list[Call] = []
        self.open_until: int | None = None
        self.failed_probes = 0

    @rule(after=st.integers(0, 6 * SECOND))
    def time_passes(self, after: int) -> None:
        self.now += after

    @rule(ok=st.integers(0, 5), failed=st.integers(0, 5))
    def a_report_of_this_term_arrives(self, ok: int, failed: int) -> None:
        if self.open_until is not None and self.now < self.open_until:
            return  # nothing is let through
        self.breaker = count(self.breaker, self.now, Calls("c", self.rule, self.term, ok + failed, failed, "E"))
        if self.open_until is None:
            self.calls += [Call(self.now, False)] * ok + [Call(self.now, True)] * failed
            part = 10 * SECOND // PARTS
            lately = [call for call in self.calls if call.at - call.at % part > self.now - 10 * SECOND]
            failures = sum(call.failed for call in lately)
            if failed and len(lately) >= self.rule.of and failures / len(lately) >= self.rule.failures:
                self._opens()
        elif failed:
            self.failed_probes += 1
            self._opens()
        elif ok:
            self._closes()

    @rule(ok=st.integers(0, 5), failed=st.integers(0, 5), terms=st.integers(1, 3))
    def a_report_of_another_term_arrives(self, ok: int, failed: int, terms: int) -> None:
        before = self.breaker
        for term in (self.term - terms, self.term + terms):
            self.breaker = count(self.breaker, self.now, Calls("c", self.rule, term, ok + failed, failed, "E"))
        assert self.breaker == before

    @rule()
    def an_operator_closes_it(self) -> None:
        self.breaker = closed(self.breaker, "ada did")
        self._closes()

    @rule(seconds=st.integers(1, 20))
    def an_operator_opens_it(self, seconds: int) -> None:
        self.breaker = held(self.breaker, self.now, seconds * SECOND, "ada did")
        self.term += 1
        self.calls, self.open_until, self.failed_probes = [], self.now + seconds * SECOND, -1

    @invariant()
    def it_stands_as_the_model_says(self) -> None:
        standing = Standing.of(self.breaker, self.now)
        assert standing.term == self.term
        if self.open_until is None:
            assert standing.open_s is None
        else:
            assert standing.open_s == max(0, self.open_until - self.now) / SECOND

    @invariant()
    def what_is_kept_is_small_and_can_be_written(self) -> None:
        assert len(self.breaker.counted) <= PARTS + 1
        assert parts_of(text_of(self.breaker.counted)) == self.breaker.counted

    def _opens(self) -> None:
        length = min(self.rule.open_for * 2**self.failed_probes, self.rule.longest)
        self.term += 1
        self.calls, self.open_until = [], self.now + length

    def _closes(self) -> None:
        self.term += 1
        self.calls, self.open_until, self.failed_probes = [], None, 0


TestCircuits = Circuits.TestCase
TestCircuits.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_it_opens_at_the_rate_and_not_before_there_were_enough_calls() -> None:
    three = called(Breaker(), 0, failed=3)
    assert three.until is None
    assert called(three, SECOND, ok=1).until is None, "a success opens nothing"
    assert called(called(three, 0, ok=4), SECOND, failed=1).until == 3 * SECOND
    assert called(called(three, 0, ok=5), SECOND, failed=1).until is None


def test_what_was_long_ago_does_not_count() -> None:
    assert called(called(Breaker(), 0, failed=3), 11 * SECOND, failed=1).until is None


def test_every_failed_probe_doubles_the_time_up_to_the_longest() -> None:
    breaker, now, lengths = called(Breaker(), 0, failed=4), 0, []
    for _ in range(5):
        assert breaker.until is not None
        lengths.append(breaker.until - now)
        now = breaker.until
        breaker = called(breaker, now, failed=1)
    assert [length // SECOND for length in lengths] == [2, 4, 8, 15, 15]
    back = called(breaker, now + 15 * SECOND, ok=1)
    assert back.until is None
    again = called(back, 100 * SECOND, failed=4)
    assert again.until == 102 * SECOND, "it starts anew"


def test_a_call_that_began_before_the_opening_is_not_a_probe() -> None:
    opened = called(Breaker(), 0, failed=4)
    late = opened.until
    assert late is not None
    assert called(opened, late, ok=1, term=0) == opened
    assert called(opened, late, failed=1, term=0) == opened


def test_it_says_why() -> None:
    opened = called(Breaker(), 0, ok=1, failed=4)
    assert opened.why == "4 of 5 calls failed within 10 s, the last with ConnectError"
    assert called(opened, 2 * SECOND, failed=1).why == "a probe failed: ConnectError"
