"""How pytest comes by the fixture: the option, the order of imports, and projects that do not use it."""

import os
from textwrap import dedent

import pytest

import hareline_testing.hareline  # noqa: F401  once, and not again in every run within this one

pytest_plugins = "pytester"

ACTORS = """
    import dramatiq
    from broker import build
    from settings import load

    broker = build(load())
    dramatiq.set_broker(broker)

    @dramatiq.actor
    def act(n: int) -> None: ...
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project that uses Hareline."""
    pytester.makeini("[pytest]\npythonpath = .\nhareline_actors = jobs_of_mine\n")
    pytester.makepyfile(jobs_of_mine=dedent(ACTORS))
    pytester.makefile(".env", "")
    (pytester.path / ".env").write_text("BROKER_URL=amqp://h/v\nDATABASE_URL=postgresql://h/production\n")
    return pytester


def test_every_test_has_an_empty_ledger_of_its_own_whatever_dotenv_says(project: pytest.Pytester) -> None:
    project.makeconftest("from jobs_of_mine import broker")  # before any fixture is asked for
    project.makepyfile(
        """
        import pytest
        from jobs_of_mine import act

        @pytest.mark.parametrize("n", range(3))
        def test_it(hareline, n):
            assert hareline.jobs() == []
            act.send(n)
            hareline.drain()
            hareline.assert_enqueued(act, n, count=1)
            assert hareline.broker.ledger.url.startswith("sqlite:///")

        def test_that_needs_none():
            act.message(1)
        """
    )
    before = dict(os.environ)
    project.runpytest_inprocess().assert_outcomes(passed=4)
    assert {**os.environ, "PYTEST_CURRENT_TEST": ""} == {**before, "PYTEST_CURRENT_TEST": ""}


def test_processes_beside_each_other_do_not_see_each_others_jobs(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from jobs_of_mine import act

        @pytest.mark.parametrize("n", range(12))
        def test_it(hareline, n):
            for _ in range(5):
                act.send(n)
            assert hareline.drain() == 5
            hareline.assert_enqueued(act, count=5)
        """
    )
    project.runpytest_subprocess("-n", "2", "-p", "xdist").assert_outcomes(passed=12)


@pytest.mark.parametrize(
    ("option", "module", "message"),
    [
        ("", ACTORS, "write `hareline_actors = actors`"),
        ("jobs_of_yours", ACTORS, "jobs_of_yours: there is no such module"),
        ("jobs_of_mine", "import dramatiq", "has no `broker`"),
        (
            "jobs_of_mine",
            "from broker import build\nfrom settings import Settings\nbroker = build(Settings())",
            "its broker is on sqlite:///.hareline/hareline.db, not on the temporary ledger",
        ),
    ],
)
def test_a_project_that_is_not_set_up_is_told_how(
    project: pytest.Pytester, option: str, module: str, message: str
) -> None:
    project.makeini(f"[pytest]\npythonpath = .\nhareline_actors = {option}\n")
    project.makepyfile(jobs_of_mine=dedent(module))
    project.makepyfile("def test_it(hareline): ...")
    result = project.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{message}*"])


def test_a_project_that_does_not_use_it_pays_and_notices_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os, sys

        def test_it(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("hareline")
            assert not {"dramatiq", "sqlalchemy", "pydantic", "broker", "settings"} & sys.modules.keys()
            assert "DATABASE_URL" not in os.environ
        """
    )
    pytester.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=1)
