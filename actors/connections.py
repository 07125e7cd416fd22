"""Connecting a mailbox, and disconnecting it.

Your application gets a user's consent as Google describes it (scope ``gmail.readonly``, ``access_type=offline``), and
hands over what Google's token endpoint has answered.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from actors import mailboxes
from actors.access import issued
from actors.database import database
from actors.email_sync import sync_gmail
from actors.gmail import gmail
from actors.mailbox_schedule import BY, start, stop
from actors.mailboxes import together
from actors.oauth import oauth
from actors.outside import Unavailable
from control.who import By
from errors import BadInput, NotFound, nearest


class Grant(BaseModel):
    """A user's consent: the JSON of Google's token endpoint, of which the refresh token is what lasts."""

    model_config = ConfigDict(frozen=True)

    refresh_token: SecretStr = Field(min_length=1)

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Self:
        """Raises ``BadInput``, which quotes nothing of it."""
        try:
            return cls.model_validate(answer)
        except ValidationError:
            raise BadInput(
                "there is no refresh_token in it: ask for consent with access_type=offline and prompt=consent, and "
                "give what the token endpoint answers"
            ) from None


def connect(user: str, grant: Grant, *, by: By = BY) -> str:
    """Read the mailbox of this grant, now as a whole and then every five minutes; its address.

    Google is asked first: what it refuses is not connected.  Connecting again gives the mailbox these tokens, and reads
    what was missed.

    Parameters:
      user: who owns it, and is told when something is wrong with it (``actors/inbox.py``).

    Raises:
      NotConfigured: there is no OAuth client in the settings.
      Revoked: the grant is not good.
      Unavailable: Google does not answer.
      BadInput: the mailbox is connected for another user.
    """
    granted = oauth().refresh(grant.refresh_token)
    account = gmail().profile(granted.access_token.get_secret_value()).email_address
    with together() as connection:
        known = mailboxes.read(connection, account, lock=True)
        if known is not None and known.tokens is not None and known.user != user:
            raise BadInput(f"{account} is connected for {known.user!r}; disconnect it first")
        tokens = issued(granted, grant.refresh_token, database().time(connection))
        mailboxes.connect(connection, account, user, tokens)
        sync_gmail.send(account)
    start(account, by=by)
    return account


def disconnect(account: str, *, forget: bool = False, by: By = BY) -> bool:
    """Read a mailbox no more, give up its tokens at Google, and forget them.  Idempotent.

    Parameters:
      forget: and remove its letters.

    Returns whether Google has taken the tokens back; they are forgotten even if it does not answer.
    Raises ``NotFound`` for a mailbox that was never connected.
    """
    mailbox = mailboxes.find(account)
    if mailbox is None:
        raise NotFound(
            f"no mailbox {account!r} was connected; {nearest(account, [x['account'] for x in mailboxes.every()])}"
        )
    with database().write() as connection:
        mailboxes.lose(connection, account, "it was disconnected")
        if forget:
            mailboxes.forget(connection, account)
    stop(account, by=by)
    if mailbox.tokens is None:
        return True
    try:
        oauth().revoke(mailbox.tokens.refresh)
    except Unavailable:
        return False
    return True
