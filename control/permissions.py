"""Who may do what: one map, for the API, the console and the command line.

An operation is known by its operationId.  One that is not in :data:`PERMISSIONS` is refused at start-up (:func:`check`)
and by :func:`demand`, so whoever adds an operation says here who may do it.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from control.who import Who
from errors import Denied, UnmappedOperation


class Role(StrEnum):
    """Each may do what the ones before it may."""

    VIEWER = "viewer"  #: sees everything but what jobs carry
    PAYLOAD_VIEWER = "payload-viewer"  #: and arguments, results and errors, without their secrets
    OPERATOR = "operator"  #: and acts on jobs, queues and workers
    ADMIN = "admin"  #: and removes, reveals, and says who may do what

    @property
    def rank(self) -> int:
        return list(Role).index(self)

    def covers(self, needed: "Role") -> bool:
        return self.rank >= needed.rank


V, P, O, A = Role  # noqa: E741

PERMISSIONS: Final[Mapping[str, Role]] = {
    # what is there
    "get_ready": V,
    "get_overview": V,
    "get_series": V,
    "get_performance": V,
    "get_health": V,
    "get_me": V,
    "get_openapi": V,
    "list_suggestions": V,
    "list_events": V,
    "follow_events": V,
    "query_graphql": V,  # its mutations ask for their own
    # jobs
    "list_jobs": V,
    "count_jobs": V,
    "get_job": V,
    "get_job_result": P,
    "get_job_payload": P,
    "reveal_job_payload": A,
    "export_jobs": P,
    "enqueue_job": O,
    "retry_job": O,
    "run_job_now": O,
    "cancel_job": O,
    "edit_job": O,
    "remove_job": A,
    # dead letters
    "list_dead_letters": V,
    "list_failures": V,
    "get_failure": V,
    "retry_failures": O,
    "discard_failures": A,
    "acknowledge_failure": O,
    "snooze_failure": O,
    # many at once
    "list_operations": V,
    "get_operation": V,
    "start_operation": O,  # what it does is asked for as well
    "cancel_operation": O,
    # queues
    "list_queues": V,
    "get_queue": V,
    "get_queue_stats": V,
    "pause_queue": O,
    "resume_queue": O,
    "retry_queue": O,
    "change_queue": O,
    "restore_queue": O,
    "drain_queue": A,
    "clean_queue": A,
    # workers
    "list_workers": V,
    "get_worker": V,
    "quiet_worker": O,
    "resume_worker": O,
    "stop_worker": O,
    # schedules
    "list_schedules": V,
    "get_schedule": V,
    "list_ticks": V,
    "preview_schedule": V,
    "put_schedule": O,
    "pause_schedule": O,
    "resume_schedule": O,
    "run_schedule": O,
    "remove_schedule": A,
    # flows
    "list_flows": V,
    "get_flow": V,
    "cancel_flow": O,
    "retry_flow": O,
    "signal_flow": O,
    # limits and circuits
    "list_limits": V,
    "change_limit": O,
    "restore_limit": O,
    "release_limit": O,
    "list_circuits": V,
    "open_circuit": O,
    "close_circuit": O,
    # migrations from synchronous code
    "list_migrations": V,
    "list_migration_differences": P,
    "share_migration": O,
    "switch_migration": O,
    "reset_migration": O,
    "forget_migration": A,
    # the feed
    "list_followers": V,
    "seek_follower": O,
    "forget_follower": A,
    "stop_feed": A,
    # alerts
    "list_alerts": V,
    "mute_alert": O,
    "unmute_alert": O,
    # who may do what, and who did
    "list_audit": O,
    "get_audit": O,
    "verify_audit": O,
    "export_audit": A,
    "truncate_audit": A,
    "list_users": A,
    "add_user": A,
    "change_user": A,
    "list_tokens": A,
    "create_token": A,
    "revoke_token": A,
    "get_settings": O,
    # the road
    "get_road": V,
    "list_dramatiq": V,  # what jobs carry only to who may see that; its forms are retry_job, cancel_job, remove_job
    # upkeep
    "rebuild_messages": A,
    "rotate_keys": A,
    # one's own
    "list_views": V,
    "save_view": V,
    "remove_view": V,
    "logout": V,
}
"""The role that each operation needs."""

_READS: Final = ("get_", "list_", "count_", "follow_", "query_", "export_", "preview_", "verify_", "reveal_")
#: Changes nothing but who is logged in.
_ALWAYS: Final = frozenset({"logout"})

#: For load balancers too: whoever asks may.
ANYBODYS: Final = frozenset({"get_ready"})

#: Operations in which the queues somebody is confined to are seen to: the readers they are given answer within their
#: scope (``Queries.within``), and the verbs ask it (``Transaction.scope``); and those that show nothing of any queue.
#: Whoever is confined may do these only.
SCOPED: Final = frozenset(
    {
        "get_ready",
        "get_overview",
        "get_series",
        "get_performance",
        "get_health",
        "get_me",
        "get_openapi",
        "list_suggestions",
        "list_events",
        "follow_events",
        "query_graphql",
        "list_jobs",
        "count_jobs",
        "get_job",
        "get_job_result",
        "get_job_payload",
        "reveal_job_payload",
        "export_jobs",
        "enqueue_job",
        "retry_job",
        "run_job_now",
        "cancel_job",
        "edit_job",
        "remove_job",
        "list_dead_letters",
        "list_failures",
        "get_failure",
        "retry_failures",
        "discard_failures",
        "list_operations",
        "get_operation",
        "start_operation",
        "cancel_operation",
        "list_queues",
        "get_queue",
        "get_queue_stats",
        "pause_queue",
        "resume_queue",
        "retry_queue",
        "change_queue",
        "restore_queue",
        "drain_queue",
        "clean_queue",
        "list_workers",
        "get_worker",
        "list_flows",
        "get_flow",
        "cancel_flow",
        "retry_flow",
        "signal_flow",
        "list_alerts",
        "mute_alert",
        "unmute_alert",
        "list_audit",
        "get_audit",
        "get_road",
        "list_dramatiq",
        "list_views",
        "save_view",
        "remove_view",
        "logout",
    }
)


def check(operations: Iterable[str]) -> None:
    """Raise ``UnmappedOperation`` when nobody said who may do one of them."""
    missing = sorted(set(operations) - PERMISSIONS.keys())
    if missing:
        raise UnmappedOperation(
            f"no role is said to be needed for {', '.join(missing)}: add to PERMISSIONS in control/permissions.py"
        )


def writes(operation: str) -> bool:
    """Whether it changes anything.  What its name does not show to be reading is taken for writing."""
    return not operation.startswith(_READS) and operation not in _ALWAYS


def demand(who: Who, operation: str) -> None:
    """Raise ``Denied`` unless they may; ``UnmappedOperation`` for one that nobody knows."""
    needed = PERMISSIONS.get(operation)
    if needed is None:
        raise UnmappedOperation(f"there is no operation {operation!r} in control/permissions.py")
    if who.role not in list(Role) or not Role(who.role).covers(needed):
        raise Denied(f"{operation} needs the role {needed}; {who.name} has {who.role or 'none'}")
    if who.queues and operation not in SCOPED:
        raise Denied(f"{operation} is not for one queue, and {who.name} is confined to {', '.join(who.queues)}")


def allowed(who: Who, operation: str) -> bool:
    """Whether they may: for what is shown.  What is done asks :func:`demand`."""
    try:
        demand(who, operation)
    except Denied:
        return False
    return True
