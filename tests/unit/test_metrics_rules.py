"""The rules for Prometheus and the dashboard for Grafana: right by promtool, and about metrics that there are."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from cli import main
from metrics.catalogue import METRICS, Metric
from tests.servers.promtool import promtool

FOLDER = Path(__file__).parents[2] / "metrics"
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"][0]["rules"]
TESTS: list[dict[str, Any]] = yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
]


@pytest.fixture(scope="session")
def checker() -> Path:
    try:
        return promtool()
    except FileNotFoundError as error:
        if os.environ.get("HARELINE_TEST_PROMTOOL") == "required":
            raise
        pytest.skip(str(error))


def check(checker: Path, *arguments: str, given: str | None = None) -> None:
    done = subprocess.run([checker, *arguments], cwd=FOLDER, input=given, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules(checker: Path) -> None:
    check(checker, "check", "rules", "rules.yml")


def test_every_alert_comes_when_it_must_and_only_then(checker: Path) -> None:
    check(checker, "test", "rules", "rules_test.yml")


def test_every_alert_is_tested_to_come_and_to_stay_away() -> None:
    comes = {case["alertname"] for test in TESTS for case in test["alert_rule_test"] if case["exp_alerts"]}
    stays = {case["alertname"] for test in TESTS for case in test["alert_rule_test"] if not case["exp_alerts"]}
    assert {rule["alert"] for rule in RULES} == comes == stays


def served(metric: Metric) -> dict[str, set[str]]:
    """Its series by name, with their labels."""
    labels = set(metric.labels)
    if metric.kind != "histogram":
        return {metric.name: labels}
    return {f"{metric.name}_bucket": {*labels, "le"}, f"{metric.name}_sum": labels, f"{metric.name}_count": labels}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_asked_for_is_served(expression: str) -> None:
    known = {name: labels for metric in METRICS for name, labels in served(metric).items()}
    asked = re.findall(r"\b(hareline_\w+)(?:\{([^}]*)\})?", expression)
    assert asked
    assert [name for name, _ in asked if name not in known] == []
    for name, matchers in asked:
        assert set(re.findall(r"(\w+)\s*(?:=|!=)~?\"", matchers)) <= known[name]
    labels = set().union(*(known[name] for name, _ in asked)) | {"instance"}
    for grouped in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert set(re.split(r",\s*", grouped)) <= labels


def test_the_dashboard_shows_every_metric_but_three() -> None:
    text = "\n".join(EXPRESSIONS)
    missing = {metric.name for metric in METRICS if not any(name in text for name in served(metric))}
    assert missing == {"hareline_duty_ago_seconds", "hareline_leader", "hareline_ledger_read_seconds"}  # for questions


def test_remedies_name_commands_that_there_are() -> None:
    commands: Any = get_command(main)
    for rule in RULES:
        for line in re.findall(r"`hareline ([a-z ]+)`", rule["annotations"]["remedy"]):
            command = commands
            for word in line.split():
                assert word in command.commands, line
                command = command.commands[word]


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
