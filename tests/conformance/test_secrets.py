"""Arguments that rest encrypted, and actors that not everybody may send to."""

import pytest

from errors import Forbidden
from ledger.states import Reason
from middleware.current import current_job
from middleware.secret import Secret
from tests.conformance.system import System

KEYS = "k:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
MARKER = "xyzzy"


def test_only_the_body_and_who_has_the_key_see_what_is_secret(system: System) -> None:
    keyed = system.another(keys=KEYS)

    @keyed.actor(sensitive=True, store_results=True)
    def whisper(text: str) -> str:
        return f"{text}!"

    @keyed.actor(max_retries=1, min_backoff=10)
    def keep(text: Secret[str], user: str) -> None:
        job = current_job()
        if job.state is None:
            job.checkpoint(text.reveal())
            raise RuntimeError(text.reveal())
        keyed.note((text, job.state, user))

    @keyed.actor()
    def hear(text: str) -> None:
        keyed.note(text)

    keyed.work()
    assert whisper.send(MARKER).get_result(block=True, timeout=30_000) == f"{MARKER}!"
    kept = keep.send(Secret(MARKER), user="ada")
    keyed.noted((Secret(MARKER), MARKER, "ada"))
    heard = hear.message_with_options(args=())
    (whisper.message(MARKER) | heard).run()
    keyed.noted(f"{MARKER}!")
    assert keyed.finished(4) == {"completed": 4}
    for message in (kept, heard):
        job = keyed.job(message)
        assert MARKER not in repr(job)
        assert MARKER.encode() not in job.body
    assert keyed.job(kept).attempts[0].error_message == "<encrypted: key k>"


def test_without_the_key_a_job_is_a_dead_letter(system: System) -> None:
    keyed = system.another(keys=KEYS)
    for each in (keyed, system):

        @each.actor(actor_name="whisper", sensitive=True)
        def whisper(text: str) -> None: ...

    sent = keyed.broker.get_actor("whisper").send(MARKER)
    system.work()
    system.finished(1)
    job = system.job(sent)
    assert job.reason is Reason.UNDECIPHERABLE
    assert "HARELINE_KEYS has no key here" in str(job.attempts[0].error_message)


def test_a_restricted_actor_runs_what_was_sent_by_who_may(system: System) -> None:
    billing, reports = system.another(producer="billing-api"), system.another(producer="reports")
    for each in (system, billing, reports):

        @each.actor(actor_name="pay", allowed_producers={"billing-api"})
        def pay(amount: int) -> None:
            system.note(amount)

    billing.broker.get_actor("pay").send(1)
    with pytest.raises(Forbidden):
        reports.broker.get_actor("pay").send(2)
    reports.broker.permissions.allowed = {}  # an older release, that knows of no rule
    bypassed = reports.broker.get_actor("pay").send(3)
    system.work()
    assert system.finished(2) == {"completed": 1, "failed": 1}
    assert (system.notes, system.job(bypassed).reason) == ([1], Reason.FORBIDDEN)
