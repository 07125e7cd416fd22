"""The bell that tells the other processes of a machine that there is work."""

import errno
import socket
import tempfile
from collections.abc import Iterator
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


def test_a_bell_that_cannot_be_rung_fails_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever rings has just recorded a job: to raise would say that it had not.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    listener, ringer = Doorbell("sqlite:///x.db"), Doorbell("sqlite:///x.db")
    try:
        listener.listen()
        with monkeypatch.context() as out_of_files:
            out_of_files.setattr(socket, "socket", no_more_files)
            ringer.ring()
        assert not listener.wait(0)
        ringer.ring()
        assert listener.wait(5)
    finally:
        listener.close()
        ringer.close()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of a name so short that bells hang in it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.mark.parametrize("level", ["user", "ledger"])
def test_what_another_user_has_put_in_its_place_is_neither_used_nor_emptied(
    level: str, place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bell = Doorbell("sqlite:///x.db")
    below = tmp_path / bell.folder.name
    below.mkdir()
    (below / "precious").write_text("mine")
    if level == "user":
        planted = bell.folder.parent
        planted.symlink_to(tmp_path)
    else:
        planted = bell.folder
        planted.parent.mkdir()
        planted.symlink_to(below)
    bell.ring()
    assert "remove it" in caplog.text
    with pytest.raises(OSError, match=str(planted)):
        bell.listen()
    bell.close()
    assert (below / "precious").read_text() == "mine"


def test_a_file_that_lies_among_the_bells_is_left_there(place: Path) -> None:
    listener = Doorbell("sqlite:///x.db")
    listener.listen()
    precious = listener.folder / "precious"
    precious.write_text("mine")
    listener.ring()
    assert listener.wait(5)
    listener.close()
    assert precious.read_text() == "mine"


def test_a_folder_that_an_earlier_version_made_readable_for_all_is_closed(place: Path) -> None:
    listener = Doorbell("sqlite:///x.db")
    listener.folder.mkdir(parents=True)
    listener.folder.parent.chmod(0o755)
    listener.listen()
    assert listener.folder.parent.stat().st_mode & 0o777 == 0o700
    listener.close()


def no_more_files(*args: object) -> None:
    raise OSError(errno.EMFILE, "Too many open files")
