"""The whole OpenAPI document, tried with everything that fits it and everything that does not.

Needs requirements.prove.lock.  HARELINE_TEST_EXAMPLES says how many requests each operation gets; 25, if not given.
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from starlette.testclient import TestClient

from broker import Broker
from broker import build as build_broker
from control import Control
from control.permissions import Role
from control.tokens import create
from dashboard.app import build
from ledger import open_ledger
from ledger.states import Outcome, Reason
from settings import Settings
from tests.ledgers import join, new_job, run

pytestmark = pytest.mark.timeout(1800)

EXAMPLES = int(os.environ.get("HARELINE_TEST_EXAMPLES", "25"))
#: What a schema cannot say: that of two fields one is to be given, which names exist, how dates may be written.
UNTOLD = [positive_data_acceptance, negative_data_rejection]
#: They never end.
STREAMS = {"follow_events"}


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url)


@pytest.fixture(params=[*Role])
def headers(request: pytest.FixtureRequest, settings: Settings) -> dict[str, str]:
    """Of somebody with this role."""
    control = Control(settings.database_url, "embedded")
    made = create(control, "somebody", request.param, expires_in=None, by="test")
    control.close()
    return {"Authorization": f"Bearer {made.token}"}


@pytest.fixture
def broker(settings: Settings) -> Broker:
    broker = build_broker(settings)

    @dramatiq.actor(broker=broker, queue_name="letters", circuit="post-office")
    def post(to: str, copies: int = 1) -> None: ...

    return broker


@pytest.fixture
def client(settings: Settings, broker: Broker) -> Iterator[TestClient]:
    session = open_ledger(settings.database_url, road="embedded").session("test")
    worker = join(session)
    for n in range(20):
        job = new_job(id=f"00000000-0000-7000-8000-{n:012x}")
        if n % 2:
            run(session, worker, job, Outcome.FAILED, reason=Reason.RETRIES_EXHAUSTED, error_type="ValueError")
        else:
            session.enqueue([job])
    session.close()
    with TestClient(build(settings, broker=broker), base_url="http://127.0.0.1", raise_server_exceptions=False) as one:
        yield one


def test_no_request_is_a_server_error_and_every_answer_is_as_documented(
    client: TestClient, headers: dict[str, str]
) -> None:
    schema = schemathesis.openapi.from_dict(client.get("/api/v1/openapi.json", headers=headers).json())
    schema.app = client.app
    tried: dict[str, Counter[int]] = {}
    wrong: list[str] = []
    operations: Any = schema.get_all_operations()
    for found in operations:
        operation = found.ok()
        name = operation.definition.raw["operationId"]
        if name not in STREAMS:
            tried[name], failures = _try(operation, headers)
            wrong += [f"{name}: {failure}" for failure in failures]
    statuses: Counter[int] = sum(tried.values(), Counter())
    print(f"{statuses.total()} requests to {len(tried)} operations, by status: {dict(sorted(statuses.items()))}")
    assert not wrong, "\n\n".join(wrong)
    assert statuses[200] > statuses.total() / 20
    assert [name for name, found in tried.items() if not found] == []


def _try(operation: Any, headers: dict[str, str]) -> tuple[Counter[int], list[str]]:
    """The answers by their status, and what was wrong: one example of each kind."""
    count: Counter[int] = Counter()
    wrong: list[str] = []
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

        @given(case=operation.as_strategy(generation_mode=mode))
        @hypothesis_settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def attempt(case: Any) -> None:
            answer = case.call(base_url="http://127.0.0.1", headers=headers)
            count[answer.status_code] += 1
            case.validate_response(answer, excluded_checks=UNTOLD)

        try:
            attempt()
        except Unsatisfiable:  # nothing of it can be wrong
            continue
        except FailureGroup as found:
            wrong += [f"{mode.value}: {one}" for one in found.exceptions]
        except Exception as error:  # what nobody foresaw
            wrong.append(f"{mode.value}: {type(error).__name__}: {error}")
    return count, wrong
