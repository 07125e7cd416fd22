"""Exit codes, and errors as one line with a remedy instead of a traceback."""

import sys
from enum import IntEnum
from typing import Any

from typer.core import TyperGroup

from errors import (
    BadAccount,
    BadCursor,
    BadInput,
    BadQuery,
    BadSchedule,
    BrokerError,
    CountChanged,
    FlowNotFound,
    HarelineError,
    IllegalTransition,
    JobNotFound,
    LedgerUnavailable,
    NotFound,
    OperationNotFound,
    Refusal,
    ScheduleNotFound,
    SchemaMismatch,
    SettingsError,
    UnknownEvent,
    UnknownSignal,
)
from logs import clean

__all__ = ["EXPLAINED", "BadInput", "Commands", "Exit", "NotFound", "code_of", "complain"]


class Exit(IntEnum):
    """What scripts may rely on."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    ILLEGAL = 4
    UNAVAILABLE = 5


EXPLAINED = (
    "Exit codes: 0 done; 1 failed; 2 wrong usage or settings; 3 no such job, flow, queue, actor or schedule; "
    "4 the job's state does not allow it; 5 the ledger or RabbitMQ cannot be used."
)


_CODES: tuple[tuple[type[HarelineError], Exit], ...] = (
    (SettingsError, Exit.USAGE),
    (BadInput, Exit.USAGE),
    (BadAccount, Exit.USAGE),
    (Refusal, Exit.USAGE),
    (UnknownEvent, Exit.USAGE),
    (BadCursor, Exit.USAGE),
    (BadQuery, Exit.USAGE),
    (BadSchedule, Exit.USAGE),
    (JobNotFound, Exit.NOT_FOUND),
    (FlowNotFound, Exit.NOT_FOUND),
    (UnknownSignal, Exit.NOT_FOUND),
    (NotFound, Exit.NOT_FOUND),
    (OperationNotFound, Exit.NOT_FOUND),
    (ScheduleNotFound, Exit.NOT_FOUND),
    (IllegalTransition, Exit.ILLEGAL),
    (CountChanged, Exit.ILLEGAL),
    (LedgerUnavailable, Exit.UNAVAILABLE),
    (SchemaMismatch, Exit.UNAVAILABLE),
    (BrokerError, Exit.UNAVAILABLE),
)


def code_of(error: HarelineError) -> Exit:
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.FAILED)


def complain(error: HarelineError) -> Exit:
    """Say on stderr what is wrong; returns the exit code for it."""
    for line in str(error).splitlines():
        print(f"hareline: {clean(line)}", file=sys.stderr)
    return code_of(error)


class Commands(TyperGroup):
    """All commands: whatever this project raises on purpose ends as a line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:  # typer keeps the type of a context to itself
        try:
            return super().invoke(ctx)
        except HarelineError as error:
            ctx.exit(complain(error))
