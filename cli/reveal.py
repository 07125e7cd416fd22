"""One job, with what is encrypted in clear, by the keys of this machine."""

from cli.given import operator
from cli.opened import control
from ledger.views import JobView


def revealed(ref: str) -> JobView | None:
    """None when there is no such job.  Its journal has a line of it before anything is shown."""
    from actors import broker
    from broker.revealing import revealed as found

    with control() as ledger:
        job = found(broker, ledger, broker.queries, ref, by=operator())
    broker.close()
    return job
