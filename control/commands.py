"""The command of every operation: whatever the API and the console can do, the command line can.

By operationId; a test walks the OpenAPI document and the commands, and fails for one without the other.
"""

from collections.abc import Mapping
from typing import Final

COMMANDS: Final[Mapping[str, str]] = {
    "list_jobs": "jobs ls",
    "get_job": "jobs show",
    "enqueue_job": "jobs enqueue",
    "retry_job": "jobs retry",
    "cancel_job": "jobs cancel",
    "remove_job": "jobs rm",
    "list_dead_letters": "dead ls",
    "list_queues": "queues ls",
    "get_queue": "queues show",
    "get_road": "doctor",
    "get_queue_stats": "queues ls",
    "pause_queue": "queues pause",
    "resume_queue": "queues resume",
    "list_workers": "workers ls",
    "get_worker": "workers ls",
    "list_schedules": "schedules ls",
    "get_schedule": "schedules show",
    "list_ticks": "schedules show",
    "put_schedule": "schedules add",
    "preview_schedule": "schedules preview",
    "pause_schedule": "schedules pause",
    "resume_schedule": "schedules resume",
    "run_schedule": "schedules run",
    "remove_schedule": "schedules rm",
    "list_flows": "flows ls",
    "get_flow": "flows show",
    "cancel_flow": "flows cancel",
    "retry_flow": "flows retry",
    "signal_flow": "flows signal",
    "list_limits": "limits ls",
    "change_limit": "limits set",
    "restore_limit": "limits unset",
    "release_limit": "limits release",
    "list_circuits": "circuits ls",
    "open_circuit": "circuits open",
    "close_circuit": "circuits close",
    "list_events": "events follow",
    "list_followers": "events ls",
    "seek_follower": "events seek",
    "forget_follower": "events forget",
    "stop_feed": "events off",
    "get_ready": "doctor",
}
"""What is behind ``hareline``."""

EXEMPT: Final[Mapping[str, str]] = {
    "follow_events": "nudges for pages that are looked at; `hareline events follow` tells what happens",
    "get_me": "the command line has the database's password, and no login of its own",
    "get_openapi": "the document of what the HTTP API serves",
}
"""The operations that have no command, and why."""
