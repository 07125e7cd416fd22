"""docker-compose.yml, the Dockerfile and the locks fit the project."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from starlette.testclient import TestClient

from broker import build as build_broker
from dashboard.app import build
from settings import Settings, load

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def test_every_password_must_be_given() -> None:
    variables = re.findall(r"\$\{(\w+)(.*?)\}", TEXT)
    assert {rest[:2] for _, rest in variables} == {":?"}
    assert {name for name, _ in variables} == dotenv_values(ROOT / ".env.example").keys()
    assert set(dotenv_values(ROOT / ".env.example").values()) == {""}


def test_ports_are_open_to_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_every_mounted_file_exists() -> None:
    mounts = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [mount for mount in mounts if mount.startswith("./")]
    assert files
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_every_service_that_stays_has_a_health_check() -> None:
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == {"migrate"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_services_are_given_settings_we_know(name: str, tmp_path: Path) -> None:
    environment = {key: re.sub(r"\$\{.*?\}", "secret", value) for key, value in OURS[name]["environment"].items()}
    settings = load(environment, tmp_path)
    assert len(settings.origins) == len(environment)


def test_settings_of_ones_own_reach_every_process_and_passwords_of_others_none() -> None:
    files = [file for service in OURS.values() for file in service["env_file"]]
    assert files == [{"path": "hareline.env", "required": False}] * len(OURS)
    assert "hareline.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_what_is_written_to_files_outlives_the_container() -> None:
    """The history is deleted once it is archived: the archive is all that is left of it."""
    image = (ROOT / "Dockerfile").read_text()
    [home] = re.findall(r"^WORKDIR (/home\S+)$", image, flags=re.M)
    assert re.search(r"^USER hareline\n(.*\n)*RUN mkdir \.hareline$", image, flags=re.M), "it is the user's"
    assert {tuple(service["volumes"]) for service in OURS.values()} == {(f"hareline:{home}/.hareline",)}
    assert "hareline" in yaml.safe_load(TEXT)["volumes"]
    assert f"mountPath: {home}/.hareline" in (ROOT / "docs/how-to/deploy-and-shutdown.md").read_text()
    folders = [Settings().archive_dir, Settings().data_dir, Settings().cache_dir]
    assert [folder for folder in folders if not folder.startswith(".hareline/")] == []


def test_our_services_run_commands_we_have() -> None:
    commands = {service["command"][0] for service in OURS.values()}
    tests = [service["healthcheck"]["test"] for service in OURS.values() if "healthcheck" in service]
    checks = {test[2] for test in tests if test[1] == "hareline"}
    assert commands == {"migrate", "worker", "scheduler", "console"}
    assert {command for command in commands | checks | {"nonsense"} if not is_command(command)} == {"nonsense"}


def test_the_consoles_health_check_asks_a_probe_that_it_answers(sqlite_url: str) -> None:
    address = re.search(r"http://127\.0\.0\.1:(\d+)(/\S+)'", OURS["console"]["healthcheck"]["test"][3])
    assert address
    assert int(address[1]) == Settings().console_port
    settings = Settings(database_url=sqlite_url, broker_url="amqp://nobody:nothing@127.0.0.1:1/%2F")
    with TestClient(build(settings, broker=build_broker(settings)), base_url="http://127.0.0.1") as client:
        assert client.get(address[2]).status_code == 200


def is_command(name: str) -> bool:
    hareline = Path(sys.executable).with_name("hareline")
    return subprocess.run([hareline, name, "--help"], capture_output=True, timeout=30).returncode == 0


def test_the_image_gets_every_module() -> None:
    modules = {path.parent.name for path in ROOT.glob("*/*.py")} - {"tests", "benchmarks"}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    packaged = (ROOT / "pyproject.toml").read_text()
    assert [name for name in sorted(modules) if f"!{name}" not in ignored or f'    "{name}",' not in packaged] == []
    assert [path.name for path in ROOT.glob("*.py") if f'    "{path.name}",' not in packaged] == []


def locked(name: str) -> dict[str, set[str]]:
    """The hashes of every requirement (name, version and marker) in a lock."""
    entries = re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())
    return {entry.split(" \\\n")[0]: set(re.findall(r"--hash=(\S+)", entry)) for entry in entries}


def test_the_image_runs_what_the_tests_ran() -> None:
    everything, run = locked("requirements.lock"), locked("requirements.run.lock")
    assert 20 < len(run) < len(everything)
    pins = {pin.split()[0]: hashes for pin, hashes in everything.items()}
    assert {pin: hashes for pin, hashes in run.items() if pins[pin.split()[0]] != hashes} == {}


def test_the_image_has_what_the_jobs_of_the_catalogue_need() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {re.split(r"\W", need.replace("-", "_"))[0] for extra in ("chain", "data") for need in extras[extra]}
    assert "pyarrow" in wanted
    assert wanted - {pin.partition("==")[0].replace("-", "_") for pin in locked("requirements.run.lock")} == set()


def test_locks_name_versions_and_hashes_only() -> None:
    for name in ("requirements.lock", "requirements.run.lock"):
        assert "://" not in (ROOT / name).read_text()
        assert [entry for entry, hashes in locked(name).items() if "==" not in entry or not hashes] == []
