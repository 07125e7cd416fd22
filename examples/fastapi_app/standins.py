"""A model and a PostHog on this machine, which speak the protocols of the real ones."""

import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from cli.demo.posthog import PostHogServer


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body leave in two writes

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        prompt = asked["messages"][-1]["content"]
        # As real ones do, it answers from a cache what begins like something it was asked before.
        cached = 400 if prompt.startswith("Again") else 0
        told = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": asked["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": f"You said: {prompt}"},
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 1000,
                "completion_tokens": 100,
                "prompt_tokens_details": {"cached_tokens": cached},
            },
        }
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class Model(ThreadingHTTPServer):
    """Answers at once.  Serves on 127.0.0.1 on a thread of its own, within ``with``."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), name="model", daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.shutdown()
        self.server_close()


class FarPostHog(PostHogServer):
    """A PostHog as far away as a real one: it takes a while to answer.

    Parameters:
      latency_s, jitter_s: each answer takes the first, and up to the second on top, evenly spread.
    """

    def __init__(self, latency_s: float = 0.04, jitter_s: float = 0.02) -> None:
        super().__init__()
        self._latency_s, self._jitter_s = latency_s, jitter_s

    def receive(self, uuids: list[str]) -> int:
        time.sleep(self._latency_s + random.uniform(0, self._jitter_s))
        return super().receive(uuids)
