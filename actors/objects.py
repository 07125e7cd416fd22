"""Object storage, by fsspec: s3://, gs://, abfs://; credentials and endpoints are those of its own environment."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from actors.extras import extra
from actors.outside import Refused, Unavailable
from errors import Failure, HarelineError

#: What fsspec needs besides itself; memory:// is for tests.
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "memory": "fsspec"}
#: By which a store says that an object is another one; which of them it has, is its own affair.
MARKS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "created")


class Stored:
    """One object, as it was when it was looked at.

    Raises ``Failure`` (``no_file``, ``missing_extra``), ``Refused`` when the store will not have us, and
    :class:`~actors.outside.Unavailable` for everything else, which may pass.
    """

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._files, self._path = _filesystem(reference)
        self.size, self.fingerprint = self._looked_at()

    def again(self) -> str:
        """Its fingerprint by now."""
        return self._looked_at()[1]

    def fetch(self, start: int, end: int) -> bytes:
        with _said(self._reference):
            return bytes(self._files.cat_file(self._path, start=start, end=end))

    def _looked_at(self) -> tuple[int, str]:
        with _said(self._reference):
            info = self._files.info(self._path)
        if info["type"] != "file":
            raise Failure(f"{self._reference} is a folder; name a file in it", code="no_file")
        mark = next((str(info[name]) for name in MARKS if info.get(name)), "")
        return int(info["size"]), f"{info['size']}-{mark}"


def put(reference: str, data: bytes) -> None:
    """Store an object whole, or none of it."""
    files, path = _filesystem(reference)
    with _said(reference):
        files.pipe_file(path, data)


def is_object(reference: str) -> bool:
    """Whether it names an object, not a file of this machine.  Raises ``Failure`` for a store that is not known."""
    scheme, found, _ = reference.partition("://")
    if found and scheme not in PACKAGES:
        raise Failure(f"{reference!r} is none of {', '.join(f'{name}://' for name in PACKAGES)}", code="unknown_store")
    return bool(found)


def _filesystem(reference: str) -> tuple[Any, str]:
    scheme = reference.partition("://")[0]
    package = PACKAGES[scheme]
    fsspec = extra("fsspec", f"{scheme}://", "'hareline[data]'")
    extra(package, f"{scheme}://", f"'hareline[data]' {package}")
    with _said(reference):
        # What was listed before says nothing of what is there now.
        files, path = fsspec.url_to_fs(reference, use_listings_cache=False)
    return files, path


@contextmanager
def _said(reference: str) -> Iterator[None]:
    try:
        yield
    except HarelineError:
        raise
    except FileNotFoundError as error:
        raise Failure(f"there is no {reference}", code="no_file") from error
    except PermissionError as error:
        raise Refused(f"{reference}: {error} (check the credentials of this worker)", code="unauthorized") from error
    except Exception as error:  # each store has errors of its own
        raise Unavailable(f"{reference}: {str(error) or type(error).__name__}") from error
