"""Synchronous code and the job that is to take its place, side by side; on both databases."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq import Actor, Worker
from pydantic import SecretStr
from sqlalchemy import select
from starlette.testclient import TestClient
from typer.testing import CliRunner

from broker import Broker, build
from cli import main
from control import Control, migration
from dashboard.app import build as console
from errors import BadInput, InvalidDualWrite, NotFound
from ledger.dual import DualWriteView, How, Verdict, is_sampled
from ledger.dual_writes import DualWrites
from ledger.engine import Database
from ledger.tables import audit, dual_pairs
from middleware.dual_write import dual_write
from settings import Settings
from tests.servers import Postgres

KEYS = SecretStr("k1:" + "A" * 43 + "=")


class Shop:
    """A process with an actor whose results can be compared."""

    def __init__(self, url: str) -> None:
        self.broker: Broker = build(Settings(database_url=url, keys=KEYS))
        self.control = Control(url, "embedded")
        self.asked: list[Any] = []  #: of the synchronous code
        self.worker: Worker | None = None

        @dramatiq.actor(broker=self.broker, queue_name="work", store_results=True, max_retries=0)
        def price(amount: int, customer: str = "ann") -> Decimal:
            if amount < 0:
                raise ValueError("below nothing")
            return Decimal(amount) / 10

        self.price: Actor[Any, Any] = price

    def price_now(self, amount: int, customer: str = "ann") -> Decimal:
        self.asked.append(amount)
        if amount == 13:
            raise LookupError("no price")
        return Decimal(amount) / (10 if amount < 100 else 11)

    def dual(self, share: float = 1.0, **options: Any) -> Callable[..., Any]:
        return dual_write(self.price_now, self.price, share, **{"name": "price", **options})

    def work(self, *others: "Shop") -> None:
        """Send what was handed over, here and by others, run it, and compare."""
        for process in (self, *others):
            process.compare()
        if self.worker is None:
            self.worker = Worker(self.broker, worker_timeout=20)
            self.worker.start()
        self.broker.join("work", timeout=30_000)
        for process in (self, *others):
            process.compare()

    def compare(self) -> None:
        self.broker.dual_writes.round()

    def view(self) -> DualWriteView:
        [view] = migration.report(self.broker.queries)
        return view

    def counts(self) -> dict[str, int]:
        names = ("sent", "equal", "different", "missing", "error", "pending")
        return {name: count for name in names if (count := getattr(self.view(), name))}

    def close(self) -> None:
        if self.worker is not None:
            self.worker.stop()
        self.control.close()
        self.broker.close()


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    found = Shop(database_url)
    yield found
    found.close()


def test_both_are_run_and_what_differs_is_kept(shop: Shop) -> None:
    price = shop.dual()
    assert [price(5), price(7, customer="bob"), price(110)] == [Decimal("0.5"), Decimal("0.7"), Decimal(10)]
    shop.work()
    assert shop.counts() == {"sent": 3, "equal": 2, "different": 1}
    assert shop.view().compared == 3
    [found] = migration.differences(shop.broker.queries, "price", 10)
    assert (json.loads(found.synchronous), json.loads(found.asynchronous)) == ("10", "11")
    job = shop.broker.queries.job(found.job)
    assert job is not None
    assert job.actor == "price"


def test_what_the_synchronous_code_raises_is_raised_and_no_job_is_sent(shop: Shop) -> None:
    price = shop.dual()
    with pytest.raises(LookupError, match="no price"):
        price(13)
    shop.work()
    assert shop.counts() == {}
    assert shop.broker.queries.jobs() == []


def test_nothing_that_goes_wrong_with_the_job_reaches_the_caller(shop: Shop) -> None:
    def judge(ours: object, theirs: object) -> bool:
        raise RuntimeError("cannot say, password=hunter22")

    price = shop.dual()
    assert price(-1) == Decimal("-0.1")  # its job fails
    shop.work()
    assert shop.counts() == {"sent": 1, "missing": 1}
    assert "has failed" in shop.view().trouble

    unsent = shop.dual(name="unsent", arguments=lambda amount: {"amount": "five"})
    badly = shop.dual(name="badly", arguments=lambda amount: {}[amount])
    unkeyed = shop.dual(name="unkeyed", key=lambda amount: amount.customer)
    judged = shop.dual(name="judged", same=judge)
    mixed = shop.dual(name="mixed", arguments=lambda amount: {"amount": "x" if amount == 1 else amount})
    assert [call(5) for call in (unsent, badly, unkeyed, judged)] == [Decimal("0.5")] * 4
    assert [mixed(1), mixed(2)] == [Decimal("0.1"), Decimal("0.2")]
    shop.work()
    views = {view.name: view for view in migration.report(shop.broker.queries)}
    assert {name: (view.sent, view.error) for name, view in views.items() if name != "price"} == {
        "unsent": (0, 1),
        "badly": (0, 1),
        "unkeyed": (0, 1),
        "judged": (1, 1),
        "mixed": (1, 1),  # one that is refused keeps no other from being sent
    }
    assert "InvalidPayload" in views["unsent"].trouble
    assert "KeyError" in views["badly"].trouble
    assert "RuntimeError: cannot say" in views["judged"].trouble
    assert "hunter22" not in views["judged"].trouble
    assert views["mixed"].equal == 1


def test_what_the_caller_does_to_its_arguments_afterwards_changes_nothing(shop: Shop) -> None:
    @dramatiq.actor(broker=shop.broker, queue_name="work", store_results=True)
    def count(items: list[int]) -> int:
        return len(items)

    items = [1, 2, 3]
    assert dual_write(len, count, 1, name="count", arguments=lambda items: {"items": items})(items) == 3
    items.clear()
    shop.work()
    assert shop.counts() == {"sent": 1, "equal": 1}


def test_operators_change_share_and_mode_of_every_process_while_it_runs(shop: Shop, database_url: str) -> None:
    here, other = shop.dual(share=0), Shop(database_url)
    there = other.dual(share=0)
    here(1), there(1)
    shop.work(other)
    assert shop.counts() == {}

    assert migration.set_share(shop.control, "price", 1, by="test").share == 1
    shop.work(other)
    here(2), there(2)
    shop.work(other)
    assert shop.counts() == {"sent": 2, "equal": 2}

    migration.set_mode(shop.control, "price", "async", by="test")
    shop.work(other)
    shop.asked.clear()
    assert here(3) is None, "a job does it"
    assert shop.asked == []
    assert len(shop.broker.queries.jobs()) == 3, "it is on the disk when the call returns"

    migration.set_mode(shop.control, "price", "sync", by="test")
    shop.work(other)
    assert (here(4), there(4)) == (Decimal("0.4"), Decimal("0.4"))
    shop.work(other)
    assert shop.view().sent == 3
    assert (shop.view().mode, shop.view().share, shop.view().changed_by) == ("sync", 1.0, "test")

    again = Shop(database_url)  # a process that starts later goes by the ledger, not by what the code says
    again.dual(share=1)(5)
    shop.work(again)
    assert again.view().sent == 3
    for process in (other, again):
        process.close()


def test_a_coroutine_function_stays_one(shop: Shop) -> None:
    async def price_soon(amount: int) -> Decimal:
        await asyncio.sleep(0)
        return shop.price_now(amount)

    price = dual_write(price_soon, shop.price, 1.0)
    assert asyncio.iscoroutinefunction(price)
    assert asyncio.run(price(5)) == Decimal("0.5")
    with pytest.raises(LookupError):
        asyncio.run(price(13))
    shop.work()
    assert shop.counts() == {"sent": 1, "equal": 1}
    migration.set_mode(shop.control, "price", "async", by="test")
    shop.compare()
    assert asyncio.run(price(6)) is None
    shop.work()
    assert shop.counts() == {"sent": 2, "equal": 1}


def test_an_outcome_that_comes_later_is_waited_for_and_one_that_never_comes_is_missing(shop: Shop) -> None:
    came: dict[int, str | None] = {}
    waits = shop.dual(outcome=lambda amount: came.get(amount), patience=600)
    gives_up = shop.dual(name="hasty", outcome=lambda amount: came.get(amount), patience=timedelta(0))
    waits(5), gives_up(6)
    shop.work()
    views = {view.name: view for view in migration.report(shop.broker.queries)}
    assert (views["price"].pending, views["price"].compared) == (1, 0)
    assert (views["hasty"].pending, views["hasty"].missing) == (0, 1)
    came[5] = "0.5"
    look_now(shop)
    shop.compare()
    assert migration.report(shop.broker.queries)[1].equal == 1


def look_now(shop: Shop, *, ago_s: float = 0.0) -> None:
    database = Database(shop.broker.ledger.url)
    with database.write() as connection:
        at = database.time(connection) - timedelta(seconds=ago_s)
        connection.execute(dual_pairs.update().values(look_at=at))
    database.close()


def test_what_a_process_that_died_had_sent_is_compared_by_another_and_once(shop: Shop, database_url: str) -> None:
    dying = Shop(database_url)
    dying.dual()(5)
    dying.compare()  # sent; and that is the last of it
    shop.dual()
    shop.work()
    assert shop.counts() == {"sent": 1, "pending": 1}, "it may still come back"
    look_now(shop, ago_s=31)
    found = DualWrites(database_url)
    pairs = found.ended(["price"], "slower", 10)
    shop.compare()
    assert shop.counts() == {"sent": 1, "equal": 1}
    found.settle([Verdict(pair, How.EQUAL) for pair in pairs], [], 1.0)
    assert (len(pairs), shop.view().equal) == (1, 1), "who was slower counts nothing"
    found.close()
    dying.close()


def test_what_is_secret_is_not_in_the_ledger_in_clear(shop: Shop, database_url: str) -> None:
    @dramatiq.actor(broker=shop.broker, queue_name="work", store_results=True, sensitive=True)
    def recall(word: str) -> str:
        return f"{word}!"

    dual_write(lambda word: f"{word}?", recall, 1, name="recall", outcome=lambda word: f"{word}!")("swordfish")
    dual_write(lambda word: f"{word}!", recall, 1, name="same", outcome=lambda word: f"{word}!")("swordfish")
    shop.compare()
    database = Database(database_url)
    with database.read() as connection:
        kept = connection.scalars(select(dual_pairs.c.result)).all()
    database.close()
    assert len(kept) == 2
    assert "swordfish" not in str(kept)
    shop.work()
    [found] = migration.differences(shop.broker.queries, "recall", 10)
    assert (found.synchronous, found.asynchronous) == ("[encrypted]", "[encrypted]")
    assert migration.report(shop.broker.queries)[1].equal == 1


@pytest.fixture
def postgres_shop(postgres_url: str) -> Iterator[Shop]:
    found = Shop(postgres_url)
    yield found
    found.close()


def test_while_the_ledger_is_away_the_synchronous_code_works_and_it_is_counted(
    postgres: Postgres, postgres_shop: Shop
) -> None:
    shop = postgres_shop
    price = shop.dual()
    price(1)
    shop.compare()
    for mode, amount in (("dual", 5), ("async", 6)):
        migration.set_mode(shop.control, "price", mode, by="test")
        shop.compare()
        postgres.stop()
        try:
            assert price(amount) == Decimal(amount) / 10
            shop.compare()
        finally:
            postgres.start()
    shop.work()
    assert shop.counts() == {"sent": 1, "equal": 1, "error": 2}
    assert "LedgerUnavailable" in shop.view().trouble


def test_a_process_that_ends_sends_what_it_has(shop: Shop, database_url: str) -> None:
    ending = Shop(database_url)
    ending.dual()(5)
    ending.close()
    assert shop.counts() == {"sent": 1, "pending": 1}


# -- what is declared


def test_the_same_key_is_always_in_or_out_and_who_is_in_stays_in() -> None:
    keys = [f"customer-{n}" for n in range(4_000)]
    before: set[str] = set()
    for share in (0.0, 0.05, 0.25, 0.5, 1.0):
        inside = {key for key in keys if is_sampled(share, key)}
        assert inside == {key for key in keys if is_sampled(share, key)}
        assert before <= inside
        assert abs(len(inside) / len(keys) - share) < 0.03
        before = inside


def test_calls_are_taken_by_their_key(shop: Shop) -> None:
    price = shop.dual(share=0.5, key="customer")
    customers = [f"c{n}" for n in range(20)]
    for customer in customers * 2:
        price(1, customer)
    shop.work()
    inside = [customer for customer in customers if is_sampled(0.5, f'"{customer}"')]
    sent = [json.loads(row) for row in bodies(shop)]
    assert sorted(message["args"][1] for message in sent) == sorted(inside * 2)
    assert 0 < len(inside) < 20


def bodies(shop: Shop) -> list[bytes]:
    found = [shop.broker.queries.recorded(row.id) for row in shop.broker.queries.jobs()]
    return [body for recorded in found if recorded for _, body in [recorded]]


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Shop]:
    found = Shop(f"sqlite:///{tmp_path / 'h.db'}")
    yield found
    found.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share": 1.5}, "'price': share is a part of the calls, from 0 to 1, got 1.5"),
        ({"share": True}, "share is a part"),
        ({"share": float("nan")}, "share is a part"),
        ({"mode": "asink"}, "mode 'asink' is none; did you mean async"),
        ({"name": "a b"}, "its name has letters"),
        ({"key": "custmer"}, "'custmer' is no parameter of it; the nearest is 'customer'"),
        ({"key": 5}, "key is the path of an argument"),
        ({"outcome": 5}, "outcome is a function, got 5"),
        ({"same": None}, "same is a function"),
        ({"patience": -1}, "patience is a number of seconds"),
    ],
)
def test_what_cannot_be_is_refused_by_name(plain: Shop, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidDualWrite, match=words.replace("(", r"\(")):
        plain.dual(**options)


def test_what_cannot_be_compared_is_refused_by_name(plain: Shop) -> None:
    @dramatiq.actor(broker=plain.broker)
    def silent() -> None: ...

    with pytest.raises(InvalidDualWrite, match="'silent' keeps no result to compare; declare it with store_results"):
        dual_write(lambda: None, silent)
    with pytest.raises(InvalidDualWrite, match="sync_fn is a function"):
        dual_write(5, plain.price)  # type: ignore[call-overload]
    with pytest.raises(InvalidDualWrite, match="actor is an actor"):
        dual_write(plain.price_now, plain.price_now)  # type: ignore[call-overload]
    plain.dual()
    with pytest.raises(InvalidDualWrite, match="'price': there is another of that name"):
        plain.dual()


# -- what operators do


def test_what_operators_do_is_checked_and_on_record(shop: Shop, database_url: str) -> None:
    with pytest.raises(NotFound, match="no migration is named 'price'; there are none"):
        migration.set_share(shop.control, "price", 0.5, by="test")
    price = shop.dual()
    price(110)
    shop.work()
    with pytest.raises(NotFound, match="did you mean price"):
        migration.set_mode(shop.control, "pric", "async", by="test")
    with pytest.raises(NotFound, match="did you mean price"):
        migration.differences(shop.broker.queries, "pric", 10)
    with pytest.raises(BadInput, match=r"from 0 to 1, got 2; 0\.25 is a quarter"):
        migration.set_share(shop.control, "price", 2, by="test")
    with pytest.raises(BadInput, match="there is no mode 'asink'; did you mean async"):
        migration.set_mode(shop.control, "price", "asink", by="test")
    for _ in range(2):
        migration.set_share(shop.control, "price", 0.5, by="test")
    migration.set_mode(shop.control, "price", "async", by="test")
    migration.reset(shop.control, "price", by="test")
    assert shop.counts() == {}
    assert migration.differences(shop.broker.queries, "price", 10) == []
    assert (shop.view().mode, shop.view().share) == ("async", 0.5)
    migration.forget(shop.control, "price", by="test")
    assert migration.report(shop.broker.queries) == []
    database = Database(database_url)
    with database.read() as connection:
        deeds = connection.scalars(select(audit.c.operation).order_by(audit.c.seq)).all()
    database.close()
    assert deeds == ["share_migration", "switch_migration", "reset_migration", "forget_migration"]


@pytest.mark.one_database
def test_the_api_and_the_command_line_do_the_same(
    shop: Shop, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.dual()(110)
    shop.work()
    settings = Settings(database_url=database_url, console_insecure_local=True)
    with TestClient(console(settings, broker=shop.broker), base_url="http://127.0.0.1/api/v1/") as api:
        [listed] = api.get("migrations").json()
        assert (listed["name"], listed["mode"], listed["share"], listed["different"]) == ("price", "dual", 1.0, 1)
        [difference] = api.get("migrations/price/differences").json()
        assert difference["synchronous"] == '"10"'
        set_ = {"name": "price", "mode": "dual", "share": 0.25}
        assert api.put("migrations/price/share", json={"share": 0.25}).json() == set_
        assert api.put("migrations/price/mode", json={"mode": "async"}).json() == {**set_, "mode": "async"}
        assert api.put("migrations/price/share", json={"share": 2}).status_code == 422
        assert api.put("migrations/nothing/mode", json={"mode": "sync"}).status_code == 404
        assert api.post("migrations/price/reset").json() == {"id": "price", "result": "reset"}

    monkeypatch.setenv("DATABASE_URL", database_url)

    def said(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, ["migration", *words])
        assert done.exit_code == code, done.output
        return done.output

    [shown] = json.loads(said("report", "--json"))
    assert shown | {"mode": "async", "share": 0.25, "compared": 0, "error": 0, "missing": 0} == shown
    assert said("share", "price", "0.5") == (
        "price: 0.5 of the calls become jobs as well; in mode async that does not matter\n"
    )
    assert "synchronous code does the work alone" in said("mode", "price", "sync")
    assert json.loads(said("mode", "price", "dual", "--json")) == {"name": "price", "mode": "dual", "share": 0.5}
    assert "price\tdual\t0.5" in said("report")
    assert said("differences", "price").splitlines() == ["job\tat\tsynchronous\tasynchronous"]
    assert said("reset", "price") == "price: counted anew from here\n"
    assert said("forget", "price", "--yes") == "price is forgotten\n"
