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
from control.who import By
from errors import BadInput, Failure, HarelineError, NotFound, Retry, nearest


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
        owner = mailboxes.owner(connection, account)
        if owner not in (None, user):
            raise BadInput(f"{account} is connected for {owner!r}; disconnect it first")
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
    known = [row["account"] for row in mailboxes.every()]
    if account not in known:
        raise NotFound(f"no mailbox {account!r} was connected; {nearest(account, known)}")
    try:
        mailbox = mailboxes.find(account)
        refresh = mailbox.tokens.refresh if mailbox is not None and mailbox.tokens is not None else None
        given_back = True
    except Failure:  # under a key that is gone, which is no reason to keep them
        refresh, given_back = None, False
    with database().write() as connection:
        mailboxes.lose(connection, account, "it was disconnected")
        if forget:
            mailboxes.forget(connection, account)
    stop(account, by=by)
    try:
        if refresh is not None:
            oauth().revoke(refresh)
    except (HarelineError, Retry):  # whatever Google has against it, they are forgotten here
        return False
    return given_back
