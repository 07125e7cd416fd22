"""Object storage that speaks S3: as much of it as reading parts of objects and storing whole ones needs."""

import threading
from email.utils import formatdate
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

KEY, SECRET = "AKIAHARELINE", "not so secret"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Bucket"

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        if self._is_known():
            self.server.objects[self.path] = data
            self._say(200, b"", ETag=_etag(data))

    def do_HEAD(self) -> None:
        self._give(only_head=True)

    def do_GET(self) -> None:
        self._give()

    def _give(self, *, only_head: bool = False) -> None:
        if not self._is_known():
            return
        self.server.asked.append((self.command, self.path, self.headers.get("range")))
        data = self.server.objects.get(self.path)
        if data is None:
            self._say(404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")
            return
        headers = {"ETag": _etag(data), "Last-Modified": formatdate(usegmt=True), "Content-Type": "text/plain"}
        asked = self.headers.get("range")
        if asked is None:
            self._say(200, data, only_head=only_head, **headers)
            return
        first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
        part = data[first : last + 1]
        headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        self._say(206, part, only_head=only_head, **headers)

    def _is_known(self) -> bool:
        if f"Credential={KEY}/" in self.headers.get("authorization", ""):
            return True
        self._say(403, b"<Error><Code>InvalidAccessKeyId</Code><Message>no such key id</Message></Error>")
        return False

    def _say(self, status: int, body: bytes, *, only_head: bool = False, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not only_head and self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Bucket(ThreadingHTTPServer):
    """``objects`` by ``/bucket/key``.  Serves within ``with``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str | None]] = []

    @property
    def environment(self) -> dict[str, str]:
        """What tells a client where it is, and who asks."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()


def _etag(data: bytes) -> str:
    return f'"{md5(data).hexdigest()}"'
