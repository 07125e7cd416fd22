"""``python -m dashboard``: the console and the HTTP API, until SIGTERM or SIGINT."""

import signal
import socket
import sys

import logs
from errors import HarelineError, SettingsError
from settings import Settings, load


def main() -> int:
    """Returns the exit code, as of ``hareline``'s commands."""
    for number in (signal.SIGTERM, signal.SIGINT):  # told to end before it has begun: that is in good order, too
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        settings = load()
        logs.configure(settings)
        return serve(settings)
    except HarelineError as error:
        print(f"hareline console: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 5


def serve(settings: Settings) -> int:
    """Print where it is once it answers.  For the main thread."""
    try:
        from dashboard.security import demand_somebody
        from dashboard.server import Server
    except ModuleNotFoundError as error:
        raise SettingsError(f"the console is not installed ({error}): pip install 'hareline[dashboard]'") from error
    demand_somebody(settings)
    server = Server(settings)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again at its end, which is in good order
        signal.signal(number, server.handle_exit)
    server.run(sockets=[_listen(settings.console_host, settings.console_port)])
    return 0 if server.started else 1


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SettingsError(
            f"cannot listen at {host}:{port} ({error.strerror}): set HARELINE_CONSOLE_PORT to a free port, or to 0"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
