"""Lists of jobs under a name, by the API and at a terminal: each has their own."""

import json

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from broker import build as build_broker
from cli import main
from cli.exits import Exit
from control import Control
from control.permissions import Role
from control.saved_views import MOST, save
from control.tokens import create
from dashboard.app import build
from errors import BadInput
from settings import Settings

pytestmark = pytest.mark.one_database


def test_a_token_keeps_changes_and_forgets_its_own_views(database_url: str) -> None:
    settings = Settings(database_url=database_url)
    control = Control(database_url, "embedded")
    tokens = {name: create(control, name, Role.VIEWER, expires_in=None, by="test").token for name in ("ada", "bob")}
    with TestClient(build(settings, broker=build_broker(settings)), base_url="http://127.0.0.1/api/v1/") as api:
        ada, bob = ({"Authorization": f"Bearer {tokens[name]}"} for name in ("ada", "bob"))
        for query in ("state=waiting", "?state=failed&queue=billing&q="):
            kept = api.put("views/unpaid", json={"query": query}, headers=ada)
            assert kept.status_code == 200, kept.text
        assert [view["query"] for view in api.get("views", headers=ada).json()] == ["state=failed&queue=billing"]
        assert api.get("views", headers=bob).json() == []
        assert api.delete("views/unpaid", headers=bob).status_code == 404
        wrong = api.put("views/unpaid", json={"query": "colour=red"}, headers=ada)
        assert (wrong.status_code, wrong.json()["title"]) == (422, "That cannot be used")
        assert api.delete("views/unpaid", headers=ada).json() == {"name": "unpaid"}
        assert api.get("views", headers=ada).json() == []
    control.close()


def test_at_a_terminal(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    for words, code, told in (
        (("save", "unpaid", "state=failed&queue=billing"), Exit.OK, "unpaid shows state=failed&queue=billing"),
        (("save", "unpaid", "colour=red"), Exit.USAGE, "'colour' is not in the address"),
        (("save", "unpaid", "state:failed"), Exit.USAGE, "write state=failed&queue=billing, or q=state:failed"),
        (("ls",), Exit.OK, "state=failed&queue=billing"),
        (("rm", "unpaid"), Exit.OK, "unpaid is forgotten"),
    ):
        result = CliRunner().invoke(main, ["views", *words])
        assert result.exit_code == code, result.output
        assert told in result.output
    listed = CliRunner().invoke(main, ["views", "ls", "--json"])
    assert json.loads(listed.stdout) == []


def test_nobody_keeps_more_than_they_can_look_at(database_url: str) -> None:
    control = Control(database_url, "embedded")
    for number in range(MOST):
        save(control, f"view {number}", "", by="ada")
    with pytest.raises(BadInput, match="100 views already"):
        save(control, "one more", "", by="ada")
    save(control, "view 7", "state=failed", by="ada")
    control.close()
