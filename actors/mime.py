"""What a mail says: headers, texts, attachments, of whatever anybody has sent.

Mails are hostile.  The standard library's parser raises all kinds of errors on some, and takes minutes over others,
above all where it parses headers by their grammar (``policy.default``): twenty thousand parts in ten seconds became
two minutes.  So it runs with ``compat32``, what it is given is bounded, and what goes wrong with one part is noted and
keeps no other back.
"""

import codecs
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.header import decode_header
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.policy import Compat32
from email.utils import getaddresses, parsedate_to_datetime
from functools import partial
from itertools import islice
from typing import TypeVar, cast

from pydantic import BaseModel

T = TypeVar("T")

#: As much of one header is read, and of the texts of a mail.
MAX_HEADER = 8_000
MAX_CHARS = 200_000
#: Parts that are looked at.
MAX_PARTS = 500
#: Mails with more parts within parts, more lines that may begin a part, or more lines, are not taken apart; of those
#: that many bytes are read, for the headers.  (A file of 40 MB is half a million lines.)
MAX_NESTED = 100
MAX_DASHES = 5_000
MAX_LINES = 600_000
MAX_HEAD = 200_000
MAX_PROBLEMS = 20

_NESTING = re.compile(rb"content-type:\s*(?:multipart|message)/", re.IGNORECASE)
#: Of a time that grows with the square of the text's length, and of no use in mails.
_NO_CHARSETS = {"punycode", "idna"}


class _Bounded(Compat32):
    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:MAX_HEADER]


class Attachment(BaseModel):
    """Something that came with a mail; only what it is called is kept."""

    name: str
    type: str
    size: int  #: bytes


class Parsed(BaseModel):
    """A mail, in characters that any database takes."""

    message_id: str = ""
    subject: str = ""
    sender: str = ""
    recipients: list[str] = []
    sent_at: datetime | None = None  #: as it says
    text: str = ""
    html: str = ""
    attachments: list[Attachment] = []
    problems: list[str] = []  #: what could not be read


def parsed(source: bytes) -> Parsed:
    """What a mail says.  Raises nothing: what cannot be read is empty, and named among the problems."""
    return _Reader(source).found


class _Reader:
    def __init__(self, source: bytes) -> None:
        self.found = Parsed()
        self._room = MAX_CHARS
        nested = len(_NESTING.findall(source))
        lines, dashes = source.count(b"\n"), source.count(b"\n--") if nested else 0
        if nested > MAX_NESTED or dashes > MAX_DASHES or lines > MAX_LINES:
            self._problem("it has too many parts or lines, and was not taken apart")
            whole = None
        else:
            whole = self._tried("the mail", lambda: BytesParser(policy=_Bounded()).parsebytes(source), None)
        self._headers(BytesHeaderParser(policy=_Bounded()).parsebytes(source[:MAX_HEAD]) if whole is None else whole)
        if whole is not None:
            parts = list(islice(_leaves(whole), MAX_PARTS + 1))
            for part in parts[:MAX_PARTS]:
                self._part(part)
            if len(parts) > MAX_PARTS:
                self._problem(f"it has more than {MAX_PARTS} parts")

    def _headers(self, message: Message) -> None:
        raw: dict[str, str] = {}
        for name, value in message.raw_items():
            raw.setdefault(name.lower(), _characters(str(value)))  # the first one counts
        found = self.found
        found.message_id = _line(raw.get("message-id", ""))
        found.subject = self._words("Subject", raw.get("subject", ""))
        found.sender = next(iter(self._people("From", raw)), "")
        found.recipients = [*self._people("To", raw), *self._people("Cc", raw)]
        if "date" in raw:
            found.sent_at = self._tried("Date", lambda: _moment(raw["date"]), None)

    def _words(self, name: str, value: str) -> str:
        """A text with its encoded words decoded."""
        return _line(self._tried(name, partial(_decoded, value), value))

    def _people(self, name: str, raw: dict[str, str]) -> list[str]:
        people = self._tried(name, lambda: getaddresses([raw.get(name.lower(), "")]), [("", raw.get(name.lower(), ""))])
        told = ((self._words(name, who), _line(address)) for who, address in people)
        return [f"{who} <{address}>" if who else address for who, address in told if who or address]

    def _part(self, part: Message) -> None:
        kind = part.get_content_type()
        name = self._words("a file's name", self._tried("a file's name", partial(_file_name, part), ""))
        disposition = self._tried("a part", lambda: part.get_content_disposition() or "", "attachment")
        if kind in ("text/plain", "text/html") and not name and disposition != "attachment":
            text = self._tried("a text", lambda: self._text(part), "")
            field = "text" if kind == "text/plain" else "html"
            before = getattr(self.found, field)
            setattr(self.found, field, f"{before}\n{text}" if before and text else before or text)
        else:
            size = self._tried("an attachment", lambda: _size(part), 0)
            self.found.attachments.append(Attachment(name=name, type=_line(kind), size=size))

    def _text(self, part: Message) -> str:
        text = _clean(self._read(cast(bytes, part.get_payload(decode=True) or b""), part.get_content_charset()))
        if len(text) > self._room:
            self._problem(f"it has more than {MAX_CHARS:,} characters")
        text = text[: self._room]
        self._room -= len(text)
        return text

    def _read(self, data: bytes, charset: str | None) -> str:
        if charset is not None:
            try:
                if codecs.lookup(charset).name in _NO_CHARSETS:
                    raise LookupError
                return data.decode(charset, "replace")
            except (LookupError, ValueError):
                self._problem(f"the charset {_line(charset)[:40]!r} is not known")
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data.decode("cp1252", "replace")

    def _tried(self, what: str, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except Exception as error:  # there is hardly one that this parser has not been made to raise
            self._problem(f"{what} cannot be read ({type(error).__name__})")
            return otherwise

    def _problem(self, what: str) -> None:
        if what not in self.found.problems and len(self.found.problems) < MAX_PROBLEMS:
            self.found.problems.append(what)


def _leaves(message: Message) -> Iterator[Message]:
    """The parts that have no parts, in order; a mail that is attached is one."""
    stack = [message]
    while stack:
        part = stack.pop()
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            stack += reversed(cast("list[Message]", part.get_payload()))
        else:
            yield part


def _file_name(part: Message) -> str:
    return part.get_filename() or ""


def _decoded(value: str) -> str:
    return "".join(
        piece if isinstance(piece, str) else piece.decode(charset or "ascii", "replace")
        for piece, charset in decode_header(value)
    )


def _moment(value: str) -> datetime:
    said = parsedate_to_datetime(value)
    return said.replace(tzinfo=said.tzinfo or UTC).astimezone(UTC)


def _size(part: Message) -> int:
    data = part.get_payload(decode=True)
    return len(cast(bytes, data) if data is not None else part.as_bytes())


def _characters(value: str) -> str:
    """A header that was written in bytes, against all rules, read as UTF-8."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _clean(text: str) -> str:
    """Without what PostgreSQL does not take: NUL, and halves of characters."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _line(text: str) -> str:
    """One line of characters that can be seen."""
    return " ".join("".join(x if x.isprintable() else " " for x in _clean(text)).split())
