"""By which door somebody comes in."""

from collections.abc import Callable
from typing import Literal

from starlette.requests import Request

from control.permissions import Role
from dashboard.security.principal import Principal
from dashboard.security.sources import refuse_other_names, refuse_other_sites
from errors import SettingsError
from settings import Settings, loopback

#: Who it is, or None when it is not for this door.  Raises ``NotAuthenticated``, ``Denied``.
Door = Callable[[Request, str, str], Principal | None]


class Local:
    """Nobody logs in: whoever is on this machine is its admin."""

    def __init__(self, settings: Settings) -> None:
        if settings.console_insecure_local and not loopback(settings.console_host):
            raise SettingsError(
                f"console_insecure_local lets everybody in who reaches {settings.console_host}: listen on 127.0.0.1 "
                "(console_host), or add users (`hareline users add`) and leave it out"
            )
        self.open = settings.console_insecure_local
        self.read_only = settings.console_read_only

    def __call__(self, request: Request, address: str, id: str) -> Principal | None:
        if not self.open:
            return None
        refuse_other_names(request)
        refuse_other_sites(request, tools=True)
        via: Literal["api", "console"] = "api" if "/api/" in request.url.path else "console"
        return Principal("local", Role.ADMIN, via=via, address=address, request=id, read_only=self.read_only)
