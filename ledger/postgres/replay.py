"""Code that waits for its database, on an asyncio connection, without a second version of it."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from ledger.postgres.connection import Row, Statements

T = TypeVar("T")


class Run(Protocol):
    def __call__(self, name: str, *parameters: object) -> Awaitable[list[Row]]: ...


async def replayed(work: Callable[[Statements], T], run: Run) -> T:
    """What ``work`` returns, its statements run by ``run``.

    It is called again after each, and given the answers it had so far: so it must do nothing but ask, and ask the
    same when it is answered the same.  Recording jobs is one to nine statements, and cheap beside any of them.
    """
    told: list[tuple[str, list[Row]]] = []
    while True:
        try:
            return work(_Told(told))
        except _Asked as asked:
            told.append((asked.name, await run(asked.name, *asked.parameters)))


class _Asked(BaseException):
    """The next statement.  No ``Exception``, for nothing on its way may handle it."""

    def __init__(self, name: str, parameters: tuple[object, ...]) -> None:
        self.name = name
        self.parameters = parameters


class _Told:
    def __init__(self, answers: list[tuple[str, list[Row]]]) -> None:
        self._answers = iter(answers)

    def run(self, name: str, *parameters: object) -> list[Row]:
        for told, rows in self._answers:
            assert told == name, f"{name} was {told} before"
            return rows
        raise _Asked(name, parameters)

    def run_after(
        self, name: str, lock: str, parameters: tuple[object, ...], lock_parameters: tuple[object, ...]
    ) -> list[Row]:
        self.run(lock, *lock_parameters)
        return self.run(name, *parameters)
