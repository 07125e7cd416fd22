"""What operators may do, each verb one transaction with a line in the journal that says who did it.

jobs.py        retry, cancel, remove: one job, or many
queues.py      pause, resume
limits.py      change a rate, restore it, release what waits
schedules.py   put (add or change), pause, resume, remove; bring the ledger to what the code declares
dead.py        retry, discard: dead letters
rebuild.py     new messages for waiting jobs whose messages are lost
rows.py        locking a job's row; refusing what its state does not allow
transaction.py Control: the database the verbs work on
"""

from control.transaction import Control

__all__ = ["Control"]
