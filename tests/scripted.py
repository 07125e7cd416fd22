"""Local HTTP servers that answer as a test says: the outside systems of the actors."""

import json
import threading
from collections.abc import Callable
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Answer = Callable[[BaseHTTPRequestHandler], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body leave in two writes
    server: "Scripted"
    body: bytes  #: of the request

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer()

    def do_GET(self) -> None:
        self.body = b""
        self._answer()

    def _answer(self) -> None:
        sent = json.loads(self.body) if self.body.startswith((b"{", b"[")) else self.body
        with self.server.lock:
            self.server.requests.append((self.path, sent))
            self.server.headers.append(dict(self.headers.items()))
            self.server.bodies.append(self.body)
            self.server.connections.add(self.client_address[1])
            answer = self.server.script.pop(0) if self.server.script else self.server.answer
        answer(self)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Scripted(ThreadingHTTPServer):
    """Answers every request as the test says, and keeps what it was sent.  Serves within ``with``.

    ``script`` are the answers of the next requests, one each; ``answer`` that of all others.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), Handler)
        self.lock = threading.Lock()
        self.script: list[Answer] = []
        self.answer: Answer = status(200)
        self.requests: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.connections: set[int] = set()

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None = None, error: BaseException | None = None, tb: object = None
    ) -> None:
        self.shutdown()
        self.server_close()


def respond(code: int, body: object, **headers: str) -> Answer:
    """Answer with this JSON; underscores in the names of headers are dashes."""
    encoded = b"" if code in (204, 304) else json.dumps(body).encode()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(encoded)))
        request.end_headers()
        request.wfile.write(encoded)

    return answer


def status(code: int, **headers: str) -> Answer:
    return respond(code, {}, **headers)


def cut_mid_body(request: BaseHTTPRequestHandler) -> None:
    if "Range" in request.headers:
        request.send_response(206)
        request.send_header("Content-Range", "bytes 0-999/1000")
    else:
        request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b'{"sta')
    request.close_connection = True


def silent(released: threading.Event, most_s: float = 30.0) -> Answer:
    """Say nothing until it is released, or so many seconds are over."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        released.wait(most_s)
        request.close_connection = True

    return answer


QUOTA = respond(
    429, {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "param": None}}
)
BUSY = respond(429, {"error": {"message": "Rate limit reached", "type": "requests"}}, Retry_After="7")
OVERLOADED = respond(503, {"error": {"message": "The engine is currently overloaded"}}, Retry_After="3")
BROKEN = respond(500, {"error": {"message": "The server had an error", "type": "server_error"}})
KEYLESS = respond(401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})


class OpenAIServer(Scripted):
    """Embeds and answers as OpenAI does; the same text always gets the same vector."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = self._as_openai
        self.poison = "\0"  #: an embedding of a text that contains this is refused

    @property
    def url(self) -> str:
        return f"{super().url}/v1"

    @property
    def embedded(self) -> list[list[str]]:
        """The texts of each request for embeddings."""
        return [sent["input"] for path, sent in self.requests if path == "/v1/embeddings"]

    def _as_openai(self, request: BaseHTTPRequestHandler) -> None:
        sent = json.loads(request.body)  # type: ignore[attr-defined]
        match request.path:
            case "/v1/embeddings" if any(self.poison in text for text in sent["input"]):
                answer = respond(400, {"error": {"message": "'$.input' is invalid", "type": "invalid_request_error"}})
            case "/v1/embeddings":
                data = [
                    {"object": "embedding", "index": n, "embedding": vector_of(text)}
                    for n, text in enumerate(sent["input"])
                ]
                answer = respond(200, {"object": "list", "data": data[::-1], "model": sent["model"], "usage": {}})
            case "/v1/chat/completions":
                text = f"You said: {sent['messages'][-1]['content']}"
                choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                used = {
                    "prompt_tokens": 1000,
                    "completion_tokens": 100,
                    "prompt_tokens_details": {"cached_tokens": 400},
                }
                answer = respond(200, {"id": "c", "model": sent["model"], "choices": [choice], "usage": used})
            case _:
                answer = respond(404, {"error": {"message": f"no such endpoint: {request.path}"}})
        answer(request)


def vector_of(text: str) -> list[float]:
    return [byte / 255 - 0.5 for byte in sha256(text.encode()).digest()[:8]]
