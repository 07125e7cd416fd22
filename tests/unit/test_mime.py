"""What a mail says, of whatever anybody has sent."""

import time
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest

from actors.mime import MAX_CHARS, MAX_PARTS, MAX_PROBLEMS, Attachment, Parsed, parsed


def mail(*headers: bytes, body: bytes = b"hello\r\n") -> bytes:
    return b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


def multipart(*parts: bytes) -> bytes:
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts)
    return mail(b'Content-Type: multipart/mixed; boundary="b"', body=body + b"--b--\r\n")


def test_a_mail_with_everything_is_read() -> None:
    message = EmailMessage()
    message["From"] = "Ada Löv <ada@example.org>"
    message["To"] = "Bob <bob@example.org>, eve@example.org"
    message["Cc"] = "Zoë <zoe@example.org>"
    message["Subject"] = "Grüße aus Köln"
    message["Message-ID"] = "<1@example.org>"
    message["Date"] = "Sun, 22 Nov 2026 09:00:00 +0100"
    message.set_content("Schöne Grüße\n")
    message.add_alternative("<p>Schöne Grüße</p>\n", subtype="html")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="Größe.pdf")
    attached = EmailMessage()
    attached["Subject"] = "inside"
    attached.set_content("not ours")
    message.add_attachment(attached)

    found = parsed(bytes(message))
    inside = found.attachments.pop()
    assert (inside.type, inside.size > 20) == ("message/rfc822", True)
    assert found == Parsed(
        message_id="<1@example.org>",
        subject="Grüße aus Köln",
        sender="Ada Löv <ada@example.org>",
        recipients=["Bob <bob@example.org>", "eve@example.org", "Zoë <zoe@example.org>"],
        sent_at=datetime(2026, 11, 22, 8, tzinfo=UTC),
        text="Schöne Grüße\n",
        html="<p>Schöne Grüße</p>\n",
        attachments=[Attachment(name="Größe.pdf", type="application/pdf", size=4)],
    )


@pytest.mark.parametrize(
    ("header", "body", "text", "problems"),
    [
        (b"Content-Type: text/plain; charset=iso-8859-1", b"caf\xe9", "café", []),
        (b"Content-Type: text/plain", b"caf\xc3\xa9", "café", []),
        (b"Content-Type: text/plain", b"caf\xe9", "café", []),  # not declared, and not UTF-8
        (b"Content-Type: text/plain; charset=utf-8", b"caf\xe9", "caf\ufffd", []),
        (b"Content-Type: text/plain; charset=klingon", b"caf\xe9", "café", ["the charset 'klingon' is not known"]),
        (b"Content-Type: text/plain; charset=punycode", b"cafe", "cafe", ["the charset 'punycode' is not known"]),
        (b"Content-Type: text/plain; charset=hex", b"63", "63", ["the charset 'hex' is not known"]),
        (b"Content-Transfer-Encoding: quoted-printable", b"caf=C3=A9=", "café", []),
        (b"Content-Transfer-Encoding: base64", b"!Y2Fmw6k", "café", []),
        (b"Content-Type: text/plain", b"a\0b", "ab", []),
    ],
)
def test_texts_are_read_whatever_their_charset(header: bytes, body: bytes, text: str, problems: list[str]) -> None:
    found = parsed(mail(header, body=body))
    assert (found.text, found.problems) == (text, problems)


@pytest.mark.parametrize(
    ("date", "read"),
    [
        (b"Sun, 22 Nov 2026 09:00:00 -0500", datetime(2026, 11, 22, 14, tzinfo=UTC)),
        (b"22 Nov 2026 09:00 -0000", datetime(2026, 11, 22, 9, tzinfo=UTC)),
        (b"yesterday", None),
        (b"Mon, 99 Foo 99999 99:99:99 +99999999", None),
    ],
)
def test_dates_are_read_or_left_out(date: bytes, read: datetime | None) -> None:
    found = parsed(mail(b"Date: " + date))
    assert found.sent_at == read
    assert (found.problems == []) == (read is not None)


def test_characters_that_act_on_a_terminal_or_break_a_database_are_in_no_line() -> None:
    found = parsed(mail(b"Subject: \x1b[31m=?utf-8?q?a=00=1b=0d=0ab?=\xff", b"From: =?x?q?\x07?= <a\x1b@b>"))
    for line in (found.subject, found.sender):
        assert line.isprintable()
        line.encode()
    assert parsed(mail(b"X: y", body=b"\xed\xa0\x80")).text.encode()


def test_what_has_no_end_is_cut_off_and_said_so() -> None:
    assert len(parsed(mail(body=b"a" * (MAX_CHARS + 1))).text) == MAX_CHARS
    many = parsed(multipart(*[b"Content-Type: application/pdf; name=x\r\n\r\nx"] * (MAX_PARTS + 1)))
    assert (len(many.attachments), many.problems) == (MAX_PARTS, [f"it has more than {MAX_PARTS} parts"])
    strange = multipart(*[b"Content-Type: text/plain; charset=x-%d\r\n\r\nx" % n for n in range(MAX_PROBLEMS + 5)])
    assert len(parsed(strange).problems) == MAX_PROBLEMS


HOSTILE = {
    "parentheses": mail(b"Subject: " + b"(" * 50_000, b"To: " + b"(" * 50_000, b"From: " + b"(" * 50_000),
    "quotes": mail(b"To: " + b'"' * 50_000),
    "angles": mail(b"To: " + b"<" * 50_000),
    "groups": mail(b"To: " + b"g:" * 50_000),
    "people": mail(b"To: " + b"a@b.c," * 50_000),
    "words": mail(b"Subject: " + b"=?utf-8?q?=41?= " * 20_000),
    "words without end": mail(b"Subject: " + b"=?" * 50_000),
    "parameters": mail(b"Content-Type: text/plain; " + b"".join(b"name*%d*=utf-8''%%41;" % n for n in range(5_000))),
    "parts in parts": mail(
        *(b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d' % (n, n) for n in range(3_000))
    ),
    "mails in mails": mail(*[b"Content-Type: message/rfc822\r\n"] * 5_000),
    "parts": multipart(*[b"\r\nx"] * 20_000),
    "lines": mail(body=b"\n" * 700_000),
    "no boundary": mail(b"Content-Type: multipart/mixed"),
    "any bytes": bytes(range(256)) * 200,
    "nothing": b"",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_no_mail_breaks_it_or_keeps_it_long(source: bytes) -> None:
    began = time.process_time()
    found = parsed(source)
    assert time.process_time() - began < 3, "seconds of this process"
    assert len(found.problems) <= MAX_PROBLEMS
    found.model_dump_json().encode()
