"""A local server that speaks PostHog's batch capture protocol, and is sometimes too busy to."""

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

KEY = "phc_demo"


class Handler(BaseHTTPRequestHandler):
    """One connection; keep-alive, as PostHog's."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body leave in two writes
    server: "PostHogServer"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path.rstrip("/") != "/batch":
            self._answer(404, {"type": "invalid_request", "detail": f"no such endpoint: {self.path}"})
            return
        try:
            request = json.loads(body)
            key, uuids = request["api_key"], [str(event["uuid"]) for event in request["batch"]]
        except (ValueError, KeyError, TypeError):
            self._answer(400, {"type": "validation_error", "detail": "expected {api_key, batch: [{uuid, event, …}]}"})
            return
        if key != KEY:
            self._answer(401, {"type": "authentication_error", "detail": "invalid api_key"})
            return
        status = self.server.receive(uuids)
        if status == 200:
            self._answer(200, {"status": 1})
        else:
            self._answer(status, {"detail": "busy, come back later"}, **{"Retry-After": "1"})

    def _answer(self, status: int, body: dict[str, object], **headers: str) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the report counts."""


class PostHogServer(ThreadingHTTPServer):
    """Serves on 127.0.0.1 on a thread of its own, within ``with``.

    It keeps one event per uuid, as PostHog does.

    Parameters:
      busy: the statuses (503, 429) with which the first requests for a uuid are turned away, to come back in a
        second; a uuid not in it is taken at once.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, busy: Mapping[str, Sequence[int]] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self._lock = threading.Lock()
        self._busy = {uuid: list(statuses) for uuid, statuses in (busy or {}).items()}
        self.received: Counter[str] = Counter()  #: how often each uuid was taken
        self.answers: Counter[int] = Counter()  #: how often each status was answered

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def receive(self, uuids: list[str]) -> int:
        """The status to answer a request of these events with."""
        with self._lock:
            status = next((self._busy[uuid].pop(0) for uuid in uuids if self._busy.get(uuid)), 200)
            if status == 200:
                self.received.update(uuids)
            self.answers[status] += 1
            return status

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), name="posthog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None = None, error: BaseException | None = None, tb: object = None
    ) -> None:
        self.shutdown()
        self.server_close()
