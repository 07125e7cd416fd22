"""What operators may do, each verb one transaction with a line in the journal that says who did it.

jobs.py        retry, run now, cancel, remove: one job, or many
queues.py      pause, resume
workers.py     quiet, resume, stop
health.py      whether all is well, by thresholds
alerts.py      what changes is told, once; mute
circuits.py    open, close a circuit breaker
limits.py      change a limit, restore it, release what waits
schedules.py   put (add or change), pause, resume, remove; bring the ledger to what the code declares
operations.py  retry, cancel, discard, remove, run now: all jobs that fit, in batches that survive a crash
failures.py    acknowledge, snooze: groups of failures
export.py      all jobs that fit, as lines
dead.py        retry, discard: dead letters
feed.py        follow what happens to jobs
followers.py   seek, forget, off: those who follow
flows.py       cancel, retry, signal a flow
road.py        RabbitMQ as people are shown it; agreement: does the ledger agree with it
rebuild.py     new messages for waiting jobs whose messages are lost
gates.py       what they mean for jobs that wait for one another
rows.py        locking a job's row; refusing what its state does not allow
who.py         who asks, for the journal
transaction.py Control: the database the verbs work on
"""

from control.transaction import Control

__all__ = ["Control"]
