"""Every policy, on every system: the same tests, four times.

    embedded-sqlite         the ledger is a SQLite file, and carries the jobs itself
    embedded-postgresql     the same on PostgreSQL
    classic-postgresql      RabbitMQ's classic queues, any version of it
    quorum-postgresql       its quorum queues with strict priorities, RabbitMQ 4.3; skipped where that is not unpacked

A file is a policy.  A test is given ``system`` (:class:`tests.conformance.system.System`), declares its actors on it,
sends, lets it work, and looks at what became of the jobs; it uses what a user has and nothing else, so that it holds
whatever carries the jobs and wherever they are recorded:

    def test_a_job_that_fails_is_tried_again(system: System) -> None:
        @system.actor(max_retries=1, min_backoff=10)
        def flaky() -> None:
            system.note("ran")
            if current_job().attempt == 1:
                raise RuntimeError("not yet")

        message = flaky.send()
        system.work()
        assert system.finished(1) == {"completed": 1}
        assert system.notes == ["ran", "ran"]
        assert system.job(message).attempts_spent == 2

To add a policy: a file of its own, one test for each thing the policy promises, no sleep where ``system.until`` or a
``system.gate()`` does it.  The workers are threads of this process, so a test takes a tenth of a second; what needs
processes (kills, forks, deploys) is in tests/acceptance.  At the end of each test the workers stop, and no job may be
left in anybody's hands.  Another process on the same system is ``system.another()``.
"""
