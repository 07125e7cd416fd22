"""Google's OAuth 2.0 server: access tokens for the refresh tokens of accounts."""

from contextlib import suppress

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from actors.outside import Refused, Service, needed, shaped
from actors.per_process import per_process
from settings import load


class Revoked(Refused):
    """Raised when a refresh token is not good any more: its owner has to grant access again."""


class Granted(BaseModel):
    """What a refresh token was answered with."""

    access_token: SecretStr = Field(min_length=1)
    expires_in: int = Field(default=3_600, ge=1)  #: seconds
    refresh_token: SecretStr | None = None  #: in the place of the one that was sent; Google keeps it as it was


class _Problem(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    error: str = ""


class OAuth(Service):
    """One such server, and our client at it.  Thread-safe; raises what :class:`~actors.outside.Service` raises."""

    def __init__(self, url: str, client_id: str, client_secret: SecretStr, *, timeout_s: float) -> None:
        super().__init__(url, timeout_s=timeout_s, check="HARELINE_GOOGLE_CLIENT_ID and HARELINE_GOOGLE_CLIENT_SECRET")
        self._client = {"client_id": client_id, "client_secret": client_secret.get_secret_value()}

    def refresh(self, token: SecretStr) -> Granted:
        """Another access token.  Safe to repeat.  Raises :class:`Revoked`."""
        form = {**self._client, "refresh_token": token.get_secret_value(), "grant_type": "refresh_token"}
        return shaped(Granted, self.submit("/token", form))

    def revoke(self, token: SecretStr) -> None:
        """Give up a refresh token, and the access tokens made of it.  Idempotent."""
        with suppress(Revoked):
            self.submit("/revoke", {"token": token.get_secret_value()})

    def problem(self, response: httpx.Response, said: str) -> Exception:
        try:
            error = _Problem.model_validate_json(response.content).error
        except ValidationError:
            error = ""
        if error in ("invalid_grant", "invalid_token"):
            return Revoked(said, code="invalid_grant")
        return super().problem(response, said)


def oauth() -> OAuth:
    """This process's client of the server in the settings.  Raises ``NotConfigured``."""
    return needed(_client(), "google_client_id", "no access token can be had")


@per_process
def _client() -> OAuth | None:
    settings = load()
    if settings.google_client_id is None:
        return None
    secret = needed(settings.google_client_secret, "google_client_secret", "no access token can be had")
    url, timeout_s = settings.google_oauth_url, settings.http_timeout_s
    return OAuth(url, settings.google_client_id, secret, timeout_s=timeout_s)
