"""``python -m examples.fastapi_app``: the API, a worker, a model and a PostHog."""

import argparse
import os
import signal
import subprocess
import sys

import uvicorn

from cli.demo.posthog import KEY
from examples.fastapi_app.standins import FarPostHog, Model


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m examples.fastapi_app", description=__doc__)
    options.add_argument("--port", type=int, default=8000)
    port = options.parse_args().port
    with Model() as model, FarPostHog() as posthog:
        os.environ |= {"OPENAI_BASE_URL": model.url, "POSTHOG_URL": posthog.url, "POSTHOG_API_KEY": KEY}
        worker = subprocess.Popen([sys.executable, "-m", "cli", "worker", "-p", "1"])
        try:
            uvicorn.run("examples.fastapi_app.app:create_app", factory=True, port=port, log_level="warning")
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(30)


main()
