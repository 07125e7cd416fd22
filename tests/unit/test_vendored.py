"""What others wrote is here as they released it, with its licence."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from tests.documents import ROOT

FOLDERS = [ROOT / "dashboard/pages/static/vendor", ROOT / "tests/browser/vendor", ROOT / "actors/vendor"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).parts[0])
def test_a_vendored_file_is_the_released_one_and_has_its_licence(folder: Path) -> None:
    listed = json.loads((folder / "manifest.json").read_text())
    known = {"manifest.json"}
    for part in listed:
        assert hashlib.sha256((folder / part["file"]).read_bytes()).hexdigest() == part["sha256"], part["file"]
        assert len((folder / part["licence_file"]).read_text()) > 400
        assert re.fullmatch(r"\d+\.\d+\.\d+", part["version"])
        known |= {part["file"], part["licence_file"]}
    assert {path.name for path in folder.iterdir()} == known


def test_the_sheet_and_the_scripts_ask_nobody_else() -> None:
    for path in (ROOT / "dashboard/pages/static").rglob("*.[cj]s*"):
        if "vendor" not in path.parts:
            assert not re.search(r"https?://|//[a-z]+\.[a-z]", path.read_text()), path.name
