"""Tables at a terminal."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout

import pytest
from rich.text import Text

from cli import shown

ID = "01a20539-dd22-7636-81f7-6d2b1c0a9f3e"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(columns: Sequence[str], row: Sequence[object], cut: str = "") -> list[str]:
    with redirect_stdout(Terminal()) as terminal:
        shown.table(columns, [row], cut=cut)
    return Text.from_ansi(terminal.getvalue()).plain.splitlines()


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")


def test_ids_names_and_headings_stay_whole_however_narrow_it_is() -> None:
    heading, row = lines(("id", "queue", "state", "attempts"), (ID, "tool-execution", "cancelled", 12))
    assert heading.split() == ["id", "queue", "state", "attempts"]
    assert row.split() == [ID, "tool-execution", "cancelled", "12"]


def test_a_long_text_is_folded_beside_what_stays_whole() -> None:
    _, first, *others = lines(("id", "error"), (ID, "word " * 40))
    assert first.startswith(ID)
    assert len(others) > 1
    assert "".join([first, *others]).count("word") == 40


@pytest.mark.parametrize(("columns", "shown_"), [(60, 20), (100, 60), (50, 12)])
def test_a_text_that_is_to_be_cut_ends_where_the_terminal_does(
    monkeypatch: pytest.MonkeyPatch, columns: int, shown_: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    _, row = lines(("id", "error"), (ID, "x" * 400), cut="error")
    assert row.split() == [ID, "x" * (shown_ - 1) + "…"]
    _, row = lines(("error", "id"), ("short", ID), cut="error")
    assert row.split() == ["short", ID]
