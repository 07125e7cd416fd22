"""Whether the ledger and RabbitMQ agree, from what both say."""

import pytest

from control.agreement import Comparison, compare, faults
from ledger.in_flight import InFlight
from rabbitmq.reading import Declared, QueueReading, Reading
from rabbitmq.topology import topology


def reading(**queues: QueueReading) -> Reading:
    return Reading("management", "3.10.8", (3, 10), "test", queues)


def judged(*looks: InFlight, there: QueueReading | None) -> Comparison:
    [found] = compare([{"q": look} for look in looks], reading(**({"q": there} if there else {})), ["q"])
    return found


@pytest.mark.parametrize(
    ("look", "there", "verdict", "count"),
    [
        (InFlight(waiting=3), QueueReading("q", 3, 0, 0), "agree", 0),
        (InFlight(waiting=3, active=2), QueueReading("q", 1, 4, 1), "agree", 0),
        (InFlight(waiting=3, active=2), QueueReading("q", 1, 2, 1), "agree", 0),  # the acks of two are on their way
        (InFlight(waiting=3, unsent=3), QueueReading("q", 0, 0, 0), "agree", 0),  # a pause, or the relay, holds them
        (InFlight(waiting=3), None, "missing", 3),
        (InFlight(waiting=3), QueueReading("q", 1, 0, 0), "missing", 2),
        (InFlight(waiting=3, unsent=1), QueueReading("q", 1, 0, 0), "missing", 1),
        (InFlight(waiting=1, active=1), QueueReading("q", 5, 0, 0), "more", 3),
        (InFlight(waiting=3), QueueReading("q"), "unknown", 0),
        (InFlight(waiting=3), QueueReading("q", 1, None, 2), "unknown", 0),  # others may be in workers' hands
        (InFlight(waiting=3), QueueReading("q", 1, None, 0), "missing", 2),
        (InFlight(waiting=1), QueueReading("q", 5, None, 2), "more", 4),
        (InFlight(), None, "agree", 0),
    ],
)
def test_what_is_on_its_way_is_no_difference(
    look: InFlight, there: QueueReading | None, verdict: str, count: int
) -> None:
    found = judged(look, there=there)
    assert (found.verdict, found.count) == (verdict, count)


def test_a_state_between_two_looks_that_explains_it_is_enough() -> None:
    before, after = InFlight(waiting=5), InFlight(waiting=1)
    for ready in range(1, 6):
        assert judged(before, after, there=QueueReading("q", ready, 0, 0)).verdict == "agree"
    assert judged(before, after, there=QueueReading("q", 0, 0, 0)).verdict == "missing"
    assert judged(before, after, there=QueueReading("q", 6, 0, 0)).verdict == "more"


def test_statistics_of_a_busy_queue_are_given_what_may_have_moved_since() -> None:
    busy = QueueReading("q", 0, 0, 1, published=10.0, delivered=0.0, acknowledged=0.0)
    assert judged(InFlight(waiting=50), there=busy).verdict == "agree"
    assert judged(InFlight(waiting=51), there=busy).count == 1


def test_the_words_say_what_to_do() -> None:
    assert "`hareline rebuild --queue q`" in judged(InFlight(waiting=3), there=None).words
    assert "dropped when a worker gets them" in judged(InFlight(), there=QueueReading("q", 5, 0, 0)).words
    assert "unknown" in judged(InFlight(waiting=3), there=QueueReading("q")).words
    assert (
        judged(InFlight(waiting=3), there=QueueReading("q", 3, 0, 0)).words == "3 jobs waiting, 3 messages in RabbitMQ"
    )


def test_queues_that_are_not_as_the_topology_has_them_are_named_with_their_dead_letters() -> None:
    [right, _] = topology(["q"], queue_type="classic", server=(3, 10))
    there = reading(
        **{
            "q": QueueReading("q", declared=Declared("classic", True, False, right.arguments, "", {}, ())),
            "q.XQ": QueueReading("q.XQ", declared=Declared("classic", True, False, {"x-max-length": 1}, "", {}, ())),
            "other": QueueReading("other"),
        }
    )
    assert faults(there, ["q", "gone"], "auto") == {"q.XQ": ["x-max-length is 1, the topology has not set"]}
    assert "it is a classic queue, the topology has quorum" in faults(there, ["q"], "quorum")["q"]
