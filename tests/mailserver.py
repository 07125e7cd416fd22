"""A mail server on this machine: enough of SMTP for smtplib, and for what can go wrong."""

import base64
import socketserver
import ssl
import threading
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, PASSWORD = "ada", "p/ss:w@rd"


class Session(socketserver.StreamRequestHandler):
    server: "MailServerForTests"

    def handle(self) -> None:
        self.say("220 localhost ESMTP")
        while line := self.rfile.readline():
            verb, _, rest = line.decode().strip().partition(" ")
            self.server.heard.append(verb.upper())
            scripted = self.server.script.get(verb.upper())
            if scripted == "silence":
                self.server.released.wait(30)
            if scripted in ("hang up", "silence"):
                return
            if scripted:
                self.say(scripted)
                continue
            match verb.upper():
                case "EHLO":
                    offers = ["localhost", *self.server.offers]
                    for number, offer in enumerate(offers, 1):
                        self.say(f"250{' ' if number == len(offers) else '-'}{offer}")
                case "STARTTLS":
                    self.say("220 go ahead")
                    self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
                    self.setup_files()
                case "AUTH":
                    self.say("235 welcome" if self.server.lets_in(rest) else "535 5.7.8 bad credentials")
                case "DATA":
                    self.say("354 end with a dot")
                    self.receive()
                case "QUIT":
                    self.say("221 bye")
                    return
                case _:
                    self.say("250 ok")

    def finish(self) -> None:
        super().finish()
        self.connection.close()  # the encrypted one is not the one that was accepted

    def setup_files(self) -> None:
        self.rfile = self.connection.makefile("rb")
        self.wfile = socketserver._SocketWriter(self.connection)  # type: ignore[attr-defined]

    def receive(self) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        if after := self.server.script.get("."):
            if after != "hang up":
                self.say(after)
            else:
                self.connection.close()
            return
        mail = message_from_bytes(b"".join(lines), policy=policy.default)
        self.server.mails.append(mail)
        self.say("250 taken")

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())
        self.wfile.flush()


class MailServerForTests(socketserver.ThreadingTCPServer):
    """Keeps the mails it is given.  Serves within ``with``.

    ``script`` is what it says to a verb instead ("hang up" for closing the connection, "silence" for
    nothing at all); "." is the end of a mail.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, folder: Path, *, offers: tuple[str, ...] = ("STARTTLS", "AUTH PLAIN")) -> None:
        super().__init__(("127.0.0.1", 0), Session)
        self.offers = offers
        self.script: dict[str, str] = {}
        self.mails: list[EmailMessage] = []
        self.heard: list[str] = []
        self.released = threading.Event()
        self.ca_file = folder / "mail.pem"
        self.tls = certified(self.ca_file)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def lets_in(self, credentials: str) -> bool:
        method, _, encoded = credentials.partition(" ")
        return method == "PLAIN" and base64.b64decode(encoded).split(b"\0")[1:] == [USER.encode(), PASSWORD.encode()]

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up in the middle of a handshake is part of the play."""


def certified(path: Path, *names: str) -> ssl.SSLContext:
    """A server's side of TLS, for 127.0.0.1 and these names; whoever trusts the file ``path`` trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    here = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1")), *map(x509.DNSName, names)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
