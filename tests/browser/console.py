"""The console over the shop's actors, as a process: ``python -m tests.browser.console PORT``."""

import sys

import uvicorn

from dashboard.app import build
from tests.browser.shop import broker, settings

if __name__ == "__main__":
    uvicorn.run(
        build(settings, broker=broker),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
