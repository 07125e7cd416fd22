"""Envelopes: text that only who has the key can read, and nobody can change or move.

    hareline-sealed:<id of the key>:<base64url of nonce, ciphertext and tag>

AES-256-GCM.  What an envelope is bound to (its associated data) is not in it; it must be said again to open it, so that
one moved to another message, actor, argument or job does not open.
"""

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from errors import Refusal, Undecipherable
from settings import Settings, keys_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PREFIX = "hareline-sealed:"
_ENVELOPE = re.compile(r"hareline-sealed:([A-Za-z0-9._-]{1,40}):([A-Za-z0-9_=-]+)")
_NONCE = 12

#: Kinds of what jobs leave.
RESULT, ERROR, CHECKPOINT, NOTE = "result", "error", "checkpoint", "note"

#: What an envelope is bound to.
Bound = tuple[str, ...]


class KeyRing:
    """The keys of this process, newest first: the first one seals, each one opens what it sealed.  Thread-safe."""

    def __init__(self, keys: Mapping[str, bytes] | None = None) -> None:
        self._keys = dict(keys or {})

    @classmethod
    def of(cls, settings: Settings) -> "KeyRing":
        """The ring of the setting ``keys``."""
        return cls(keys_of(settings.keys.get_secret_value()) if settings.keys else None)

    @property
    def ids(self) -> list[str]:
        return list(self._keys)

    def seal(self, plain: bytes, bound: Bound) -> str:
        """An envelope under the first key.  Raises ``Refusal`` when there is none."""
        if not self._keys:
            raise Refusal(
                "there is no key to encrypt it with: set HARELINE_KEYS to what `hareline keys generate` prints, "
                "here and for the workers"
            )
        id, key = next(iter(self._keys.items()))
        nonce = os.urandom(_NONCE)
        sealed = nonce + _cipher(key).encrypt(nonce, plain, _associated(bound))
        return f"{PREFIX}{id}:{base64.urlsafe_b64encode(sealed).decode()}"

    def open(self, envelope: str, bound: Bound) -> bytes:
        """What was sealed.  Raises ``Undecipherable``."""
        found = _ENVELOPE.fullmatch(envelope)
        if found is None:
            raise Undecipherable("it says that it is encrypted, and is not; send it again")
        id, encoded = found.groups()
        key = self._keys.get(id)
        if key is None:
            raise Undecipherable(
                f"it is encrypted under the key {id!r}, which is not in HARELINE_KEYS here "
                f"({', '.join(self._keys) or 'it is empty'}); add the key, then retry the job"
            )
        from cryptography.exceptions import InvalidTag

        try:
            sealed = base64.urlsafe_b64decode(encoded)
            return _cipher(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], _associated(bound))
        except (InvalidTag, ValueError, binascii.Error):
            raise Undecipherable(
                f"its envelope (key {id!r}) does not open: it was changed, or belongs to another message, actor or "
                "argument, or another key has that id; send it again"
            ) from None

    def reseal(self, envelope: str, bound: Bound) -> str:
        """The same under the first key; unchanged when it is under that one already."""
        return envelope if key_id(envelope) == self.ids[0] else self.seal(self.open(envelope, bound), bound)


class Seal:
    """Seals and opens what a job leaves in the ledger, each kind of it bound to the job."""

    __slots__ = ("_job", "_ring")

    def __init__(self, ring: KeyRing, job: str) -> None:
        self._ring = ring
        self._job = job

    def close(self, kind: str, plain: str) -> str:
        return self._ring.seal(plain.encode("utf-8", "backslashreplace"), (kind, self._job))

    def open(self, kind: str, text: str) -> str:
        """The text in clear; one that is in clear is returned as it is."""
        return self._ring.open(text, (kind, self._job)).decode() if text.startswith(PREFIX) else text


@cache
def _cipher(key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _associated(bound: Bound) -> bytes:
    return json.dumps(["hareline", 1, *bound]).encode()


def key_id(envelope: str) -> str:
    """The id of the key an envelope is under; empty when it is none."""
    found = _ENVELOPE.match(envelope)
    return found[1] if found else ""


def key_ids(text: str) -> set[str]:
    """The ids of the keys of all envelopes in a text."""
    return {found[1] for found in _ENVELOPE.finditer(text)}


def masked(text: str) -> str:
    """The text with ``<encrypted: key ID>`` in the place of each envelope in it."""
    return _ENVELOPE.sub(r"<encrypted: key \1>", text) if PREFIX in text else text


def masked_all(value: Any) -> Any:
    """The same for every text in plain JSON; names of members stay."""
    match value:
        case str():
            return masked(value)
        case list() | tuple():
            return [masked_all(item) for item in value]
        case Mapping():
            return {name: masked_all(item) for name, item in value.items()}
    return value
