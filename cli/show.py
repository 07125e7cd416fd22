"""One job, whole."""

import json
from typing import Any

from cli.shown import as_json as print_json
from cli.shown import duration, moment, plain, say, table
from ledger.views import JobView
from logs import block, clean


def show_job(job: JobView, *, traceback: bool, as_json: bool) -> None:
    """Print it; the tracebacks of its attempts only when asked for."""
    if as_json:
        return print_json(_fields(job, traceback))
    for name, value in _facts(job):
        if value not in (None, ""):
            say(f"{name:<12}{value}")
    print("\nmessage")
    print(_indented(_message(job)))
    print("\ntimeline")
    table(("at", "event", "what", "who"), [(x.at, x.event, x.text, x.who) for x in job.timeline()])
    for attempt in job.attempts:
        if attempt.error_type or attempt.error_message:
            number = f"attempt {attempt.number}" if attempt.number is not None else f"claim {attempt.epoch}"
            print(f"\n{number} {clean(attempt.outcome)}: {clean(attempt.error_type)}")
            print(_indented(block(attempt.error_message or "")))
            if traceback and attempt.traceback:
                print(_indented(block(attempt.traceback)))
    if not traceback and any(attempt.traceback for attempt in job.attempts):
        print("\n--traceback shows where")


def _facts(job: JobView) -> list[tuple[str, Any]]:
    progress = job.progress
    done = f"{progress.done:.15g}" if progress else ""
    if progress and progress.total:
        done += f" of {progress.total:.15g} ({progress.done / progress.total:.0%})"
    return [
        ("job", job.id),
        ("message", job.message_id),
        ("actor", job.actor),
        ("queue", job.queue),
        ("priority", job.priority),
        ("state", job.state + (f" ({job.reason})" if job.reason else "") + (" in history" if job.archived else "")),
        ("waits for", _wait(job)),
        ("holds back", f"{job.holds_back} jobs of its sequence" if job.holds_back else ""),
        ("asked to", "stop" if job.cancel_requested else ""),
        ("attempts", job.attempts_spent),
        ("crashes", job.crashes or ""),
        ("created", moment(job.created_at)),
        ("due", moment(job.run_at)),
        ("finished", moment(job.finished_at) if job.finished_at else ""),
        ("took", duration((job.finished_at - job.created_at).total_seconds()) if job.finished_at else ""),
        ("made of", job.edited_from or ""),
        ("edited as", ", ".join(job.edited_into)),
        ("sent by", job.producer),
        ("held by", job.claim.worker if job.claim else ""),
        ("progress", f"{done} {progress.note}".rstrip() + f", {moment(progress.at)}" if progress else ""),
        ("checkpoint", f"{job.checkpoint.size} bytes, {moment(job.checkpoint.at)}" if job.checkpoint else ""),
        ("result", f"{job.result.size} bytes, until {moment(job.result.expires_at)}" if job.result else ""),
    ]


def _wait(job: JobView) -> str:
    if job.waits is None:
        return ""
    holders = ", ".join(job.waits.held_by[:3]) + (" …" if len(job.waits.held_by) > 3 else "")
    wait = job.waits
    return f"{wait.gate}, since {moment(wait.since)}; {wait.before} before it; held by {holders or 'nobody'}"


def _message(job: JobView) -> str:
    message = job.message
    if message is None:
        return f"not a Dramatiq message, {len(job.body)} bytes:\n" + block(job.body.decode("utf-8", "backslashreplace"))
    return json.dumps({name: message.get(name) for name in ("args", "kwargs", "options")}, indent=2)


def _fields(job: JobView, traceback: bool) -> dict[str, Any]:
    fields: dict[str, Any] = plain(job)
    if job.message is not None:
        del fields["body"]
    if not traceback:
        for attempt in fields["attempts"]:
            del attempt["traceback"]
    timeline = [{"at": plain(x.at), "event": x.event, "text": x.text, "who": x.who} for x in job.timeline()]
    return fields | {"message": plain(job.message), "timeline": timeline}


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
