"""Passwords, as argon2id keeps them."""

from functools import cache
from typing import TYPE_CHECKING, Final

from errors import BadAccount, SettingsError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

#: Fewer characters are guessed.  More than the longest are no password, but work for whoever checks it.
SHORTEST, LONGEST = 12, 1_000
_NOBODYS: Final = "a password that nobody has"


def hashed(password: str) -> str:
    """Raises ``BadAccount`` for one that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise BadAccount(f"a password has {SHORTEST} to {LONGEST:,} characters, and this one has {len(password):,}")
    return _hasher().hash(password)


def fits(password: str, kept: str | None) -> bool:
    """Whether it is the one.  For a user that is not there (None), it takes as long and is false."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        right = _hasher().verify(kept or _nobodys(), password[: LONGEST + 1])
    except (VerificationError, InvalidHashError):
        return False
    return right and bool(kept)


@cache
def _nobodys() -> str:
    return _hasher().hash(_NOBODYS)


@cache
def _hasher() -> "PasswordHasher":
    try:
        from argon2 import PasswordHasher
    except ModuleNotFoundError as error:
        raise SettingsError(f"users need the console's extra ({error}): pip install 'hareline[dashboard]'") from error
    return PasswordHasher()  # the library's choice is RFC 9106's for machines with little memory
