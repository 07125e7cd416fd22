"""Rate limits against what must hold of every window of time."""

from hypothesis import given
from hypothesis import strategies as st

from ledger.gcra import Line, Pace, Share, Slot, reserve

SECOND = 1_000_000


def slots(pace: Pace, asked: list[tuple[int, int]]) -> list[int]:
    """The starts of jobs of one limit that ask so long after each other, at such a cost."""
    lines: dict[str, Line] = {}
    now, found = 1_700_000_000 * SECOND, []
    for gap, cost in asked:
        now += gap
        found.append(reserve(lines, now, [Share("k", "r", pace, cost)], {}).at)
    return found


def busiest(starts: list[int]) -> int:
    """The most starts in any second."""
    starts = sorted(starts)
    return max(sum(first <= other < first + SECOND for other in starts[n:]) for n, first in enumerate(starts))


@given(
    count=st.integers(1, 1000),
    burst=st.integers(1, 20),
    gaps=st.lists(st.integers(0, 3 * SECOND), min_size=1, max_size=200),
)
def test_no_second_has_more_starts_than_the_rate_and_the_burst_allow(count: int, burst: int, gaps: list[int]) -> None:
    found = slots(Pace.of(count, 1.0, burst), [(gap, 1) for gap in gaps])
    assert found == sorted(found)
    assert busiest(found) <= count + burst


@given(count=st.integers(1, 1000), burst=st.integers(1, 20), waiting=st.integers(30, 300))
def test_a_backlog_is_let_through_at_the_full_rate(count: int, burst: int, waiting: int) -> None:
    found = slots(Pace.of(count, 1.0, burst), [(0, 1)] * waiting)
    ideal = (waiting - burst) * SECOND / count
    assert found[burst - 1] - found[0] <= burst, "the burst comes at once, but for rounding"
    assert abs((found[-1] - found[0]) - ideal) <= waiting, "a microsecond of rounding each"


def test_what_costs_more_counts_for_more_and_never_waits_for_ever() -> None:
    found = slots(Pace.of(10, 1.0, 1), [(0, 5), (0, 1), (0, 20), (0, 1)])
    assert [at - found[0] for at in found] == [0, SECOND // 2, 6 * SECOND // 10, 26 * SECOND // 10]


def test_who_waits_for_a_limit_of_his_own_is_in_nobodys_way_in_the_one_they_share() -> None:
    lines: dict[str, Line] = {}
    everyone, each = Pace.of(10, 1.0, 1), Pace.of(1, 1.0, 1)

    def ask(user: str) -> Slot:
        return reserve(lines, 0, [Share("all", "all", everyone), Share(user, "user", each)], {})

    assert ask("ada") == Slot(0, frozenset({"all", "user"}))
    assert ask("ada") == Slot(SECOND, frozenset({"user"}))
    assert ask("bob").at == SECOND // 10


@given(
    users=st.lists(st.sampled_from("abc"), min_size=1, max_size=60),
    late=st.lists(st.integers(0, SECOND), min_size=60, max_size=60),
)
def test_limits_hold_together_however_late_their_jobs_come_back(users: list[str], late: list[int]) -> None:
    """Each job asks, and asks again when its slot has come, or up to a second later, until it may start."""
    lines: dict[str, Line] = {}
    everyone, each = Pace.of(5, 1.0, 1), Pace.of(2, 1.0, 1)
    agenda: list[tuple[int, int, Slot | None]] = [(0, n, None) for n in range(len(users))]
    started: dict[int, int] = {}
    while agenda:
        agenda.sort(key=lambda entry: entry[:2])
        now, n, held = agenda.pop(0)
        slot = reserve(lines, now, [Share("all", "all", everyone), Share(users[n], "user", each)], {}, held)
        if slot.at == now:
            started[n] = now
        else:
            agenda.append((slot.at + late[n] // 4 * (now == 0), n, slot))
    assert len(started) == len(users)
    assert busiest(list(started.values())) <= 5 + 1
    for user in set(users):
        assert busiest([at for n, at in started.items() if users[n] == user]) <= 2 + 1


def test_an_operators_rule_wins_over_the_code() -> None:
    lines: dict[str, Line] = {}
    share = Share("actor:mail:user=1", "actor:mail:user", Pace.of(1, 1.0, 1))
    rules = {"actor:mail:user": Pace.of(10, 1.0, 1)}
    assert [reserve(lines, 0, [share], rules).at for _ in range(3)] == [0, SECOND // 10, 2 * SECOND // 10]


def test_who_is_late_starts_as_soon_as_the_starts_before_allow_and_pays_again_when_that_is_not_soon() -> None:
    share, held = Share("k", "r", Pace.of(10, 1.0, 1)), Slot(SECOND, frozenset("r"))
    lines = {"k": Line(paid=5 * SECOND, begun=3 * SECOND)}
    assert reserve(lines, 0, [share], {}, Slot(4 * SECOND, frozenset("r"))).at == 4 * SECOND, "it came too early"
    assert reserve(lines, 2 * SECOND, [share], {}, held, soon=2 * SECOND).at == 3 * SECOND
    assert lines == {"k": Line(paid=5 * SECOND, begun=3 * SECOND + SECOND // 10)}
    assert reserve(lines, 2 * SECOND, [share], {}, held, soon=SECOND).at == 5 * SECOND
    assert lines["k"].paid == 5 * SECOND + SECOND // 10


@given(
    count=st.integers(1, 4),
    burst=st.integers(1, 2),
    soon=st.sampled_from([0, SECOND // 10, SECOND]),
    late=st.lists(st.integers(0, 9).map(lambda n: n * SECOND // 3), min_size=10, max_size=40),
)
def test_however_late_jobs_come_for_their_slots_there_is_no_burst(
    count: int, burst: int, soon: int, late: list[int]
) -> None:
    lines: dict[str, Line] = {}
    share = Share("k", "r", Pace.of(count, 1.0, burst))
    agenda: list[tuple[int, int, Slot | None]] = [(0, n, None) for n in range(len(late))]
    started: dict[int, int] = {}
    for _ in range(50 * len(late)):
        agenda.sort(key=lambda entry: entry[:2])
        now, n, held = agenda.pop(0)
        slot = reserve(lines, now, [share], {}, held, soon=soon)
        if slot.at - now <= soon:
            started[n] = slot.at
        else:
            agenda.append((slot.at + (late[n] if held is None else 0), n, slot))
        if not agenda:
            break
    assert len(started) == len(late), "nobody is sent away for ever"
    assert busiest(list(started.values())) <= count + burst
