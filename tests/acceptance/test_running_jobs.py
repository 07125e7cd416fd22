"""What a running job can say and hear."""

import json

from tests.acceptance.evidence import job
from tests.acceptance.system import System

APP = "tests.acceptance.talking"


def test_a_job_knows_itself_in_functions_tasks_and_threads_of_asyncio(anywhere: System) -> None:
    anywhere.worker(app=APP)
    shell = anywhere.shell(APP)
    message_id = shell.run("print(introduce.send_with_options(args=(log, 'sync'), delay=300).message_id)").strip()
    anywhere.finished(1)
    id = job(anywhere, "sync").id
    [first, second] = map(json.loads, anywhere.ran())
    assert first == [id, message_id, "introduce", "work", 1, 0, 0.3]
    assert second[:6] == [id, message_id, "introduce", "work", 2, 1]
    assert second[6] > 0.3, "a retry is due later"

    message_id = shell.run("print(introduce_later.send(log, 'async').message_id)").strip()
    anywhere.finished(2)
    told = [job(anywhere, "async").id, message_id, "introduce_later", "work", 1, 0]
    assert [json.loads(line)[:6] for line in anywhere.ran()[2:]] == [told, told]
