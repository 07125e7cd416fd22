"""The bell that tells the other processes of a machine that there is work."""

import errno
import socket
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


def no_more_files(*args: object) -> None:
    raise OSError(errno.EMFILE, "Too many open files")
