"""Which files a data job may read, and how each kind is opened.

    people.csv                               in the folder of the setting ``data_dir``
    file:///srv/data/people.csv              the same, by its whole path
    https://files.example.org/people.csv     where the setting ``data_sources`` names that server
    s3://bucket/people.parquet               where it names that bucket, or a folder of it; gs:// and abfs:// likewise

References come with jobs, so from whoever may send one: what is not allowed by a setting is not looked at.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

import httpx

from actors.addresses import Gate
from actors.downloads import Download
from actors.objects import Stored
from actors.ranged import ranged
from errors import Failure
from settings import Settings, load

WEB = ("http", "https")


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is open, and what it was when it was opened."""

    name: str  #: the last part of its path
    file: BinaryIO  #: can be sought in
    size: int  #: in bytes
    fingerprint: str  #: another one when the file is another
    again: Callable[[], str]  #: its fingerprint by now

    def check(self) -> None:
        """Raises ``Failure`` when it has been changed since it was opened."""
        if self.again() != self.fingerprint:
            raise Failure(f"{self.name} was changed while it was read: take a new id", code="file_changed")


@contextmanager
def opened(reference: str) -> Iterator[Source]:
    """The file of a reference.  Raises ``Failure`` when it may not be read, or is not there."""
    settings = load()
    scheme, elsewhere, rest = reference.partition("://")
    if not elsewhere or scheme == "file":
        path = located(settings.data_dir, rest if elsewhere else reference)
        with path.open("rb") as file:
            yield Source(path.name, file, path.stat().st_size, fingerprint(path), lambda: fingerprint(path))
        return
    _permit(reference, settings)
    found = Download(reference, Gate(settings.webhook_networks)) if scheme in WEB else Stored(reference)
    with ranged(found.size, found.fetch) as file:
        yield Source(_path(reference).rpartition("/")[2], file, found.size, found.fingerprint, found.again)


def located(folder: str, reference: str) -> Path:
    """The file that a reference names, within the folder, wherever links lead.  Raises ``Failure``."""
    root = Path(folder).resolve()
    try:
        path = (root / reference).resolve()
        there = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in it, a name too long, links in a circle
        raise Failure(f"{reference!r} is no path: {error}", code="forbidden_path") from error
    if not path.is_relative_to(root):
        raise Failure(f"{reference!r} is outside of HARELINE_DATA_DIR ({root})", code="forbidden_path")
    if not there:
        raise Failure(f"there is no file {reference!r} in HARELINE_DATA_DIR ({root})", code="no_file")
    return path


def fingerprint(path: Path) -> str:
    """What changes when the file does."""
    stat = path.stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _permit(reference: str, settings: Settings) -> None:
    scheme, _, path = _parts(reference)
    path = unquote(path)
    chained = scheme not in WEB and "::" in reference  # fsspec would open what stands behind it
    if not path.isprintable() or chained or "\\" in path or {".", ".."} & {*path.split("/")}:
        raise Failure(f"{reference!r} has a path that could mean another one", code="forbidden_path")
    if not any(_within(reference, allowed) for allowed in settings.data_sources.split()):
        raise Failure(
            f"{reference!r} is within none of HARELINE_DATA_SOURCES ({settings.data_sources or 'which is empty'}); "
            "add what may be read",
            code="forbidden_path",
        )


def _within(reference: str, allowed: str) -> bool:
    scheme, place, folder = _parts(allowed)
    its_scheme, its_place, path = _parts(reference)
    inside = path == folder or path.startswith(f"{folder.rstrip('/')}/")
    return scheme == its_scheme and place in ("", its_place) and inside


def _parts(reference: str) -> tuple[str, str, str]:
    """Scheme, server or bucket, and path, as those read them that will open it."""
    scheme, _, rest = reference.partition("://")
    if scheme not in WEB:
        place, _, path = rest.partition("/")
        return scheme, place, f"/{path}"
    if not rest or rest.startswith("/"):
        return scheme, "", f"/{rest.lstrip('/')}"
    try:
        url = httpx.URL(reference)
    except httpx.InvalidURL as error:
        raise Failure(f"{reference!r} is no URL: {error}", code="forbidden_path") from error
    return url.scheme, f"{url.host}:{url.port or ''}", url.path or "/"


def _path(reference: str) -> str:
    return _parts(reference)[2]
