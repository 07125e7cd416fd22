"""By which door somebody comes in."""

from typing import Final, Literal

from starlette.requests import Request

from control.permissions import Role
from control.tokens import hash_of
from dashboard.security.principal import Principal
from dashboard.security.sources import networks, refuse_other_names, refuse_other_sites, within
from errors import NotAuthenticated, SettingsError
from ledger.account_queries import AccountQueries, User
from settings import Settings, loopback

COOKIE: Final = "hareline"
#: What a browser takes from this very host only, over TLS only, and for the whole of it.
SECURE_COOKIE: Final = "__Host-hareline"


class Doors:
    """Tried one after the other; each raises ``NotAuthenticated`` or ``Denied`` for what is wrong at it."""

    def __init__(self, settings: Settings) -> None:
        if settings.console_insecure_local and not loopback(settings.console_host):
            raise SettingsError(
                f"console_insecure_local lets everybody in who reaches {settings.console_host}: listen on 127.0.0.1 "
                "(console_host), or add users (`hareline users add`) and leave it out"
            )
        self.settings = settings
        self.accounts = AccountQueries(settings.database_url)
        self.trusted = networks(settings.console_trusted_proxies)

    def demand_one(self) -> None:
        """Raise ``SettingsError`` unless somebody can come in."""
        if not (self.settings.console_insecure_local or self.trusted or self.accounts.anybody()):
            raise SettingsError(
                "nobody could log in: add a user (`hareline users add NAME --role admin`) or a token (`hareline tokens "
                "create`), or, on your own machine, set HARELINE_CONSOLE_INSECURE_LOCAL=true"
            )

    def identify(self, request: Request, address: str, id: str) -> Principal | None:
        """Who it is; None: nobody is logged in."""
        for door in (self._token, self._session, self._proxy, self._local):
            found = door(request, address, id)
            if found is not None:
                return found
        return None

    def _token(self, request: Request, address: str, id: str) -> Principal | None:
        """For programs.  No browser sends it by itself, so nothing has to be known of where it comes from."""
        given = request.headers.get("authorization")
        if given is None:
            return None
        scheme, _, secret = given.partition(" ")
        found = self.accounts.token(hash_of(secret.strip())) if scheme.lower() == "bearer" else None
        if found is None:
            raise NotAuthenticated("the token is not known, was revoked, or has expired; `hareline tokens ls` shows")
        role = Role(found.role)
        return self._principal(found.name, role, found.queues, "api", address, id, token=found.id)

    def _session(self, request: Request, address: str, id: str) -> Principal | None:
        key = request.cookies.get(SECURE_COOKIE) or request.cookies.get(COOKIE)
        found = self.accounts.session(hash_of(key)) if key else None
        if found is None:
            return None
        refuse_other_sites(request, tools=False)
        return self._of(found.user, address, id, found.csrf)

    def _proxy(self, request: Request, address: str, id: str) -> Principal | None:
        """What it says counts only if it is the proxy that says so; and the user has to be there."""
        name = request.headers.get(self.settings.console_proxy_user_header)
        if not name or not (request.client and within(request.client.host, self.trusted)):
            return None
        found = self.accounts.user(name)
        if found is None or found.disabled:
            raise NotAuthenticated(f"the proxy says it is {name!r}, whom nobody added: hareline users add")
        refuse_other_sites(request, tools=False)
        return self._of(found, address, id, "")

    def _local(self, request: Request, address: str, id: str) -> Principal | None:
        """Nobody logs in: whoever is on this machine is its admin."""
        if not self.settings.console_insecure_local:
            return None
        refuse_other_names(request)
        refuse_other_sites(request, tools=True)
        via: Literal["api", "console"] = "api" if "/api/" in request.url.path else "console"
        return self._principal("local", Role.ADMIN, (), via, address, id)

    def _of(self, user: User, address: str, id: str, csrf: str) -> Principal:
        return self._principal(user.name, Role(user.role), user.queues, "console", address, id, csrf=csrf)

    def _principal(
        self,
        name: str,
        role: Role,
        queues: tuple[str, ...],
        via: Literal["api", "console"],
        address: str,
        id: str,
        *,
        token: str = "",
        csrf: str = "",
    ) -> Principal:
        read_only = self.settings.console_read_only
        return Principal(name, role, queues, via, token, address, id, csrf, read_only)
