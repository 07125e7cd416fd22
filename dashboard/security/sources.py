"""From where a request may come.

A browser sends what it has for a site (cookies, its place in the network) with every request for that site, whoever
made it send one.  Here is what tells our pages' requests from the others'.
"""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from errors import ForeignRequest, SettingsError
from settings import loopback

#: Methods that change nothing.
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def refuse_other_sites(request: Request, *, tools: bool) -> None:
    """Raise ``ForeignRequest`` unless a request that changes something was made by a page of this very origin.

    Parameters:
      tools: whether one is let through that tells nothing of where it comes from, as no browser's does.
    """
    if request.method in SAFE:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        same = site == "same-origin"
    elif origin is not None:
        same = origin != "null" and urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
    else:
        same = tools
    if not same:
        raise ForeignRequest(
            "another site asked for this, or the browser did not say which; do it from the console's own pages, or "
            "send a token"
        )


def refuse_other_names(request: Request) -> None:
    """Raise ``ForeignRequest`` unless this machine goes by a name that nobody else can give to it (DNS rebinding)."""
    name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if not loopback(name):
        raise ForeignRequest(f"without a login the console answers to localhost and 127.0.0.1 only, not to {name!r}")


def networks(text: str) -> tuple[Network, ...]:
    """``10.0.0.0/8, ::1/128``.  Raises ``SettingsError``."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise SettingsError(f"console_trusted_proxies: {error}; write networks as 10.0.0.0/8,192.168.1.7/32") from None


def within(address: str, trusted: tuple[Network, ...]) -> bool:
    try:
        return any(ipaddress.ip_address(address) in network for network in trusted)
    except ValueError:
        return False


def address_of(request: Request, trusted: tuple[Network, ...]) -> str:
    """From where it comes: of what trusted proxies say was before them, the nearest that is no such proxy."""
    address = request.client.host if request.client else ""
    before = [part.strip() for part in ",".join(request.headers.getlist("x-forwarded-for")).split(",")]
    while before and before[-1] and within(address, trusted):
        address = before.pop()
    return address[:64]
