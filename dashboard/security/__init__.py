"""Who asks, and what they may.

principal(request)      who it is
allow("retry_job")      a dependency: the request goes on if they may
who(request)            the same, for the audit trail
install(app, settings)  what every request passes through
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from control.who import Who
from errors import SettingsError
from settings import Settings


@dataclass(frozen=True)
class Principal:
    """Who asks."""

    name: str
    role: str
    queues: tuple[str, ...] | None
    via: str
    token: str
    address: str


def principal(request: Request) -> Principal:
    """Whoever is on this machine: there are no users yet, and so only the loopback interface is listened to."""
    return Principal("local", "admin", None, "api", "", request.client.host if request.client else "")


def allow(operation: str) -> Callable[[Request], Principal]:
    """A dependency that lets a request go on if its principal may do this."""

    def allowed(request: Request) -> Principal:
        return principal(request)

    return allowed


def who(request: Request) -> Who:
    found = principal(request)
    return Who(found.name, found.via, found.role, found.token, found.address)


def install(app: FastAPI, settings: Settings) -> None:
    """Raises ``SettingsError`` for an address that others can reach."""
    host = settings.console_host
    if host != "localhost" and not ip_address(host).is_loopback:
        raise SettingsError(f"HARELINE_CONSOLE_HOST={host} can be reached by others, and nobody has to log in yet")


By = Annotated[Who, Depends(who)]
