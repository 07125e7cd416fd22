"""Servers that alerts are delivered to: a mail server that speaks SMTP, and a web server that takes posts."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, TCPServer, ThreadingTCPServer


@dataclass
class Mailbox:
    """What a mail server was given."""

    port: int = 0
    refuse: bytes = b""  #: the answer to a recipient, instead of yes
    mails: list[EmailMessage] = field(default_factory=list)


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self.say(b"220 mail.test")
            for line in self.rfile:
                verb = line.strip().upper()
                if verb.startswith(b"RCPT") and box.refuse:
                    self.say(box.refuse)
                elif verb == b"DATA":
                    self.say(b"354 go on")
                    body = b"".join(iter(self.rfile.readline, b".\r\n"))
                    box.mails.append(message_from_bytes(body, EmailMessage, policy=policy.default))
                    self.say(b"250 taken")
                elif verb == b"QUIT":
                    return self.say(b"221 bye")
                else:
                    self.say(b"250 ok")

        def say(self, text: bytes) -> None:
            self.wfile.write(text + b"\r\n")

    with serving(ThreadingTCPServer(("127.0.0.1", 0), Handler)) as box.port:
        yield box


@dataclass
class Posts:
    """What a web server was given."""

    url: str = ""
    status: int = 200
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def posts() -> Iterator[Posts]:
    found = Posts()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            found.headers.append(dict(self.headers))
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        found.url = f"http://127.0.0.1:{port}/hook"
        yield found


@contextmanager
def serving(server: TCPServer) -> Iterator[int]:
    """Its port, while it serves."""
    server.daemon_threads = True  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
