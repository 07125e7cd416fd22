"""How webhooks are signed: as Standard Webhooks (standardwebhooks.com) says, each address by a key of its own.

Who checks a signature could make one.  So no two addresses share a key, and the secret that all keys are made of is
given to nobody.
"""

import base64
import hmac
import time
from datetime import datetime
from hashlib import sha256

from pydantic import SecretStr

from actors.outside import in_header, needed
from errors import Failure
from settings import load

#: Before a key, where it is written down.
PREFIX = "whsec_"
SHORTEST_SECRET = 16


def key_for(url: str) -> bytes:
    """The key of what is sent to this address, to the letter.  Raises ``NotConfigured``, and ``Failure``."""
    secret = needed(load().webhook_secret, "webhook_secret", "webhooks cannot be signed")
    return hmac.digest(_bytes_of(secret), f"webhooks to {url}".encode(), sha256)


def written(key: bytes) -> str:
    """A key as receivers' libraries take it."""
    return PREFIX + base64.b64encode(key).decode()


def signed(key: bytes, id: str, body: bytes, *, at: datetime | None = None) -> dict[str, str]:
    """The headers by which a receiver knows that it is from us, and recent."""
    moment = int(at.timestamp() if at else time.time())
    digest = hmac.digest(key, f"{in_header(id)}.{moment}.".encode() + body, sha256)
    return {
        "webhook-id": in_header(id),
        "webhook-timestamp": str(moment),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _bytes_of(secret: SecretStr) -> bytes:
    """The secret of the settings: ``whsec_`` and base64, or any text."""
    text = secret.get_secret_value()
    try:
        found = base64.b64decode(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else text.encode()
    except ValueError:
        found = text.encode()
    if len(found) < SHORTEST_SECRET:
        raise Failure(
            f"HARELINE_WEBHOOK_SECRET has {len(found)} bytes; give at least {SHORTEST_SECRET}", code="weak_secret"
        )
    return found
