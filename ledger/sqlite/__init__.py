"""The ledger in a SQLite file: the default on a laptop, and all that one machine needs.

    ledger.py       SqliteLedger: where sessions come from
    session.py      the Session contract, one transaction per method
    connection.py   transactions, opened at the first use and after errors
    file.py         the file: its path, its pragmas, what SQLite's errors mean
    prepare.py      before the first use: directory, file, schema
    forks.py        no connection is open while the process forks
    enqueue.py      producers: enqueue, bury, mark
    claim.py        workers: claim and take
    finish.py       workers: finish
    giveback.py     jobs that go round again without having ended: release, beat, leave, rescue
    relay.py        promote, next_due_s, resend
    retention.py    from the hot table to history, and out of it

SQLite has one writer at a time, so no row is ever locked: ``BEGIN IMMEDIATE`` is the lock, and a
transaction may read first and write what follows from it.
"""

from ledger.sqlite.ledger import SqliteLedger

__all__ = ["SqliteLedger"]
