"""uvicorn, as it is run here."""

import socket

import uvicorn

from dashboard.app import build
from settings import Settings

#: How long a request may still take when the server is told to end.
GRACE_S = 10


class Server(uvicorn.Server):
    """Prints its address once it answers."""

    def __init__(self, settings: Settings) -> None:
        self.prefix = settings.console_prefix
        self.host = settings.console_host
        self.app = build(settings)
        super().__init__(
            uvicorn.Config(
                self.app,
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,  # whom to believe is decided in security/
                timeout_graceful_shutdown=GRACE_S,
                lifespan="on",
                ws="none",
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host = f"[{self.host}]" if ":" in self.host else self.host
            print(f"console at http://{host}:{sockets[0].getsockname()[1]}{self.prefix}/", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Streams end first: the server waits for every request."""
        self.app.state.live.end()
        await super().shutdown(sockets)
