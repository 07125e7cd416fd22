"""Where no server can be installed, the tests run in a container; where that is impossible too, they say what to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Calls run_tests() on a machine without servers; whether they can be installed does not depend on who runs this.
PROGRAM = """
import sys
from tests.servers import container
def install():
    raise container.CannotInstall("PostgreSQL is missing")
container.install = install
container.run_tests(sys.argv[1:])
"""


def run(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env={"PATH": path, "HARELINE_TEST_RABBITMQ": "4.3"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_servers_and_docker_it_says_what_to_install(tmp_path: Path) -> None:
    done = run(str(tmp_path))
    assert done.returncode == 1
    assert "PostgreSQL is missing" in done.stderr
    assert "Docker" in done.stderr


def test_with_docker_the_checkout_is_tested_in_a_container(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f'#!{shutil.which("sh")}\nfor word in "$@"; do echo "$word"; done\n')
    docker.chmod(0o755)
    done = run(os.pathsep.join([str(tmp_path), os.environ["PATH"]]), "tests/unit", "-k", "a and b")
    words = done.stdout.splitlines()
    assert done.returncode == 0
    assert words[:2] == ["run", "--rm"]
    assert f"{ROOT}:/checkout:ro" in words
    assert words[words.index("--env") + 1] == "HARELINE_TEST_RABBITMQ"
    assert words[-1].endswith("make test ARGS='tests/unit -k '\"'\"'a and b'\"'\"''")
