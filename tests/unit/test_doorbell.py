"""The bell that tells the other processes of a machine that there is work."""

import tempfile
from pathlib import Path

import pytest

from embedded.doorbell import Doorbell


@pytest.mark.parametrize("depth", [0, 1, 3, 8])
def test_it_is_heard_however_long_the_path_of_the_temporary_folder_is(
    depth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path.joinpath(*["a-rather-long-name-for-a-folder"] * depth)
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    listener, ringer = Doorbell(f"sqlite:///{tmp_path}/x.db"), Doorbell(f"sqlite:///{tmp_path}/x.db")
    try:
        listener.listen()
        ringer.ring()

        assert listener.wait(5)
        assert not listener.wait(0)
    finally:
        listener.close()
        ringer.close()
