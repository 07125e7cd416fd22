"""``send()`` from threads, forked children and asyncio code: every one that returned runs exactly once."""

from tests.acceptance.evidence import nothing_left, ran
from tests.acceptance.system import System


def test_fifty_threads_send_at_once(anywhere: System) -> None:
    anywhere.worker()
    anywhere.run(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(50) as pool:\n"
        "    list(pool.map(lambda n: record.send(log, str(n)), range(1000)))"
    )
    assert anywhere.finished(1000) == {"completed": 1000}
    assert ran(anywhere) == {str(number): 1 for number in range(1000)}
    nothing_left(anywhere)


def test_forked_children_send_while_their_parent_goes_on_sending(anywhere: System) -> None:
    anywhere.worker()
    anywhere.run(
        "import threading\n"
        "record.send(log, 'first')\n"  # the connections are open now
        "busy = threading.Thread(target=lambda: [record.send(log, f'parent {n}') for n in range(400)])\n"
        "busy.start()\n"
        "children = []\n"
        "for child in range(8):\n"
        "    children.append(os.fork())\n"
        "    if children[-1] == 0:\n"
        "        for n in range(25): record.send(log, f'child {child} {n}')\n"
        "        if child % 2: os._exit(0)\n"  # without a word
        "        raise SystemExit(0)\n"  # in good order
        "assert all(os.waitpid(child, 0)[1] == 0 for child in children)\n"
        "record.send(log, 'last')\n"
        "busy.join()"
    )
    expected = ["first", "last", *(f"parent {n}" for n in range(400))]
    expected += [f"child {child} {n}" for child in range(8) for n in range(25)]
    assert anywhere.finished(len(expected)) == {"completed": len(expected)}
    assert ran(anywhere) == dict.fromkeys(expected, 1)
    nothing_left(anywhere)


def test_asyncio_code_sends(anywhere: System) -> None:
    anywhere.worker()
    anywhere.run(
        "async def one(n):\n"
        "    await asyncio.sleep(0)\n"
        "    record.send(log, f'loop {n}')\n"
        "    await asyncio.to_thread(record.send, log, f'thread {n}')\n"
        "    await record.send_async(log, f'async {n}')\n"
        "async def main():\n"
        "    await asyncio.gather(*(one(n) for n in range(100)))\n"
        "asyncio.run(main())"
    )
    assert anywhere.finished(300) == {"completed": 300}
    assert ran(anywhere) == {f"{where} {n}": 1 for where in ("loop", "thread", "async") for n in range(100)}
    nothing_left(anywhere)
