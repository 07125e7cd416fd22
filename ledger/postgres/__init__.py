"""The ledger in PostgreSQL: any number of machines, and the RabbitMQ road's home.

    ledger.py       PostgresLedger: where sessions come from
    session.py      the Session contract, one transaction per method
    connection.py   connected at the first use, again after errors and forks; retries deadlocks
    arrays.py       rows to columns: what a batch looks like on the wire
    enqueue.py      producers: enqueue, bury
    claim.py        workers: claim and take
    finish.py       workers: finish
    retention.py    from the hot table to history, and out of it

The SQL is in ``ledger/sql/postgres.sql``; most methods are one statement there.
"""

from ledger.postgres.ledger import PostgresLedger

__all__ = ["PostgresLedger"]
