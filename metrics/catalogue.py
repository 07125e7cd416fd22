"""Every metric, as data: nothing else is exposed.  docs/reference/metrics.md is made from this module."""

import hashlib
from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]

_SHORT: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3600.0)
_SIZES: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0)


class Metric(NamedTuple):
    """One metric.  Of a gauge the values of several processes are added, or the largest is taken."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    largest: bool = False

    @property
    def width(self) -> int:
        """How many numbers one series of it is: of a histogram its buckets, the last one without end, and the sum."""
        return len(self.buckets) + 2 if self.kind == "histogram" else 1


# -- counted in the worker, as the ledger commits it
JOBS = Metric(
    "hareline_jobs_total",
    "counter",
    "Attempts of jobs that ended, by how; completed, failed and cancelled end the job.",
    ("job_type", "queue", "status"),
)
DURATION = Metric(
    "hareline_job_duration_seconds",
    "histogram",
    "How long attempts took that ran, from having a thread to their end.",
    ("job_type", "queue", "status"),
    _LONG,
)
WAIT = Metric(
    "hareline_job_wait_seconds",
    "histogram",
    "How long after a job was due an attempt of it began.",
    ("job_type", "queue"),
    _LONG,
)
DEAD = Metric("hareline_dead_letters_total", "counter", "Jobs that failed for good.", ("queue", "reason"))
REFUSED = Metric(
    "hareline_finishes_refused_total",
    "counter",
    "Attempts that ended after their worker's lease was lost: they ran twice.",
    ("queue",),
)
LIMITED = Metric(
    "hareline_limit_wait_seconds", "histogram", "How long jobs of a rate limit had to wait.", ("queue",), _LONG
)
DROPPED = Metric(
    "hareline_claims_dropped_total", "counter", "Messages that claimed no job, by why.", ("queue", "reason")
)
BUSY = Metric("hareline_worker_busy_jobs", "gauge", "Jobs that the workers of this host have in hand.")
THREADS = Metric("hareline_worker_threads", "gauge", "Jobs that they can run at once.")
PROCESSES = Metric("hareline_processes", "gauge", "Live processes of this host that are counted here.", ("role",))
DEATHS = Metric(
    "hareline_worker_deaths_total", "counter", "Worker processes that ended without being asked, by how.", ("how",)
)

# -- the recorder and the road
BATCH = Metric("hareline_recorder_batch_size", "histogram", "Rows of one commit.", ("lane",), _SIZES)
LAG = Metric(
    "hareline_recorder_lag_seconds",
    "histogram",
    "From the first row of a batch being handed over to its commit.",
    ("lane",),
    _SHORT,
)
CONFIRM = Metric(
    "hareline_publisher_confirm_seconds",
    "histogram",
    "From a message being handed to the publisher to RabbitMQ's confirm.",
    (),
    _SHORT,
)
MESSAGES = Metric(
    "hareline_published_messages_total", "counter", "Messages for RabbitMQ, by what became of them.", ("outcome",)
)

# -- duties and schedules
RELAYED = Metric(
    "hareline_relay_lateness_seconds", "histogram", "How long after their time due jobs were sent.", (), _LONG
)
CRASHES = Metric("hareline_crashes_total", "counter", "Jobs taken back from workers that died or stalled.")
RESCUED = Metric("hareline_workers_rescued_total", "counter", "Workers that were silent for longer than their lease.")
TICKS = Metric("hareline_schedule_ticks_total", "counter", "Ticks of schedules, by what became of them.", ("outcome",))
LATENESS = Metric(
    "hareline_schedule_lateness_seconds", "histogram", "How long after their time ticks were sent.", (), _LONG
)

# -- of the whole ledger: read by one scheduler or console, whoever has the lease
DEPTH = Metric("hareline_queue_jobs", "gauge", "Jobs in the hot table.", ("queue", "state"), largest=True)
OLDEST = Metric(
    "hareline_queue_oldest_waiting_seconds",
    "gauge",
    "For how long the oldest waiting job has been due; 0 when none waits.",
    ("queue",),
    largest=True,
)
PAUSED = Metric("hareline_queue_paused", "gauge", "1 while the queue is paused.", ("queue",), largest=True)
LETTERS = Metric(
    "hareline_queue_dead_letters",
    "gauge",
    "Dead letters, in the history too: there up to 10,000 of a queue.",
    ("queue", "reason"),
    largest=True,
)
CIRCUIT = Metric(
    "hareline_circuit_state", "gauge", "1 for the state the circuit is in.", ("circuit", "state"), largest=True
)
PUT_OFF = Metric(
    "hareline_circuit_put_off_jobs", "gauge", "Jobs that wait for the circuit to close.", ("circuit",), largest=True
)
WORKERS = Metric("hareline_workers", "gauge", "Worker processes in the ledger.", ("state",), largest=True)
SILENCE = Metric(
    "hareline_worker_silence_seconds",
    "gauge",
    "How long ago the worker that has been silent the longest gave its last heartbeat.",
    largest=True,
)
DUTY_LATE = Metric(
    "hareline_duty_late_seconds",
    "gauge",
    "How late a duty of maintenance was at most, of late.",
    ("duty",),
    largest=True,
)
DUTY_AGO = Metric(
    "hareline_duty_ago_seconds", "gauge", "How long ago a duty of maintenance last began.", ("duty",), largest=True
)
LEADERS = Metric("hareline_leader", "gauge", "1 while somebody holds the lease.", ("lease",), largest=True)
OVERDUE = Metric(
    "hareline_schedules_overdue_seconds", "gauge", "By how much the most overdue tick is late.", largest=True
)
READ_AT = Metric(
    "hareline_ledger_read_timestamp_seconds", "gauge", "When the ledger was last read for these gauges.", largest=True
)
READ_S = Metric("hareline_ledger_read_seconds", "gauge", "How long that took.", largest=True)

METRICS: Final = tuple(found for found in globals().copy().values() if isinstance(found, Metric))
BY_NAME: Final = {metric.name: metric for metric in METRICS}
#: Of what one process writes another can read only the same version.
DIGEST: Final = hashlib.sha256(repr(METRICS).encode()).hexdigest()[:12]

#: What stands for job types, queues and circuits beyond the most that are told apart, or that the code does not know.
OTHER: Final = "(other)"
