"""Files of web servers, read by ranges from an address that was judged."""

import re

import httpx

from actors.addresses import Gate
from actors.outside import Refused, Unavailable, at_most, problem
from errors import Failure

_RANGE = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")


class Download:
    """One file, as it was when it was first asked for.

    Its name is resolved once, and every address judged (``actors/addresses.py``); redirects are not followed.

    Raises what :func:`actors.outside.problem` says; ``Failure`` (``file_changed``) as soon as the server has another
    file than before, and ``Refused`` when it cannot give parts of it, or does not say which file it is.
    """

    def __init__(self, url: str, gate: Gate) -> None:
        self._url = url.partition("?")[0]  # a signature in its query is nobody's business
        self._target = gate.target(url)
        self.size, self.fingerprint = 0, ""
        self.size, self.fingerprint = self._ask(0, 1)[1:]

    def again(self) -> str:
        """Its fingerprint by now."""
        return self._ask(0, 1)[2]

    def fetch(self, start: int, end: int) -> bytes:
        piece, size, fingerprint = self._ask(start, end)
        if (size, fingerprint) != (self.size, self.fingerprint):
            raise Failure(f"{self._url} was changed while it was read: take a new id", code="file_changed")
        return piece

    def _ask(self, start: int, end: int) -> tuple[bytes, int, str]:
        """These bytes, the size of the whole, and its fingerprint."""
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with self._target.answer(self._url, "GET", headers=headers) as response:
            piece = at_most(response, end - start) if response.status_code == 206 else b""
        said = f"{self._url} answered {response.status_code} {response.reason_phrase}"
        whole = _RANGE.fullmatch(response.headers.get("content-range", ""))
        if _is_empty(response, whole):
            return b"", 0, _fingerprint(response, "0", self._url)
        if response.is_redirect:
            raise Refused(f"{said}; redirects are not followed: name {response.headers.get('location')!r} itself")
        if response.status_code == 200:
            raise Refused(f"{said}: it gives no parts of files (ranges); put the file elsewhere", code="no_ranges")
        if response.status_code != 206:
            raise problem(response, said, check="the reference")
        if whole is None or len(piece) != min(end, int(whole[1])) - start:
            raise Unavailable(f"{said} with {len(piece)} bytes as {response.headers.get('content-range')!r}")
        return piece, int(whole[1]), _fingerprint(response, whole[1], self._url)


def _is_empty(response: httpx.Response, whole: re.Match[str] | None) -> bool:
    """Whether the file has no bytes: then there is no part of it either, and servers differ in how they say so."""
    if response.status_code == 416:
        return whole is not None and whole[1] == "0"
    return response.status_code == 200 and response.headers.get("content-length") == "0"


def _fingerprint(response: httpx.Response, size: str, url: str) -> str:
    mark = response.headers.get("etag") or response.headers.get("last-modified")
    if mark is None:
        raise Refused(
            f"{url} has neither an ETag nor Last-Modified: nobody could tell that it was changed", code="no_etag"
        )
    return f"{size}-{mark}"
