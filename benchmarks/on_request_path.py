"""The example's API three times in one server: as it was, while it is moved, and after; prints its port."""

import socket

import uvicorn
from fastapi import FastAPI

from actors.usage import track_llm_usage
from examples.fastapi_app.app import create_app
from examples.fastapi_app.tracking import prepare, track, track_now


def main() -> None:
    prepare()
    app = FastAPI()
    app.mount("/before", create_app(track_now))
    app.mount("/dual", create_app(track))
    app.mount("/after", create_app(track_llm_usage.send))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    print(f"port {listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])


if __name__ == "__main__":
    main()
