"""Addresses that others may name: which of them are safe to connect to.

A URL that a customer gives can name our own network: by address, by a name that resolves to one, by a name that
resolves to another address the second time it is asked.  So a name is resolved once, every address it has is judged,
and the connection goes to a judged address, whatever the name means by then.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from actors.outside import Refused, Unavailable
from actors.per_process import per_process
from settings import load, networks_of

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Sequence[str]]

PORTS = {"http": 80, "https": 443}

#: IPv4 addresses within IPv6 (RFC 6052).
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: Not public either, though Python's registry, or an older one, says so: what clouds tell their machines (Azure's
#: 168.63.129.16, Oracle's 192.0.0.192), relays of 6to4, site-local IPv6, segment routing, documentation.
INSIDE = networks_of("168.63.129.16, 192.0.0.0/24, 192.88.99.0/24, fec0::/10, 5f00::/16, 3fff::/20")


class Forbidden(Refused):
    """Raised for an address that nothing may be sent to."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"nothing is sent to {url!r}: {why}", code="forbidden_address")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL whose host was resolved and judged."""

    url: httpx.URL  #: with the address in the place of the host
    host: str  #: for the Host header
    name: str  #: for the certificate

    @contextmanager
    def answer(
        self, named: str, method: str, *, headers: Mapping[str, str], content: bytes | None = None
    ) -> Iterator[httpx.Response]:
        """What the judged address answers to a request in the host's name; its body is read within.

        With TLS each has a connection of its own: one is found again by its address, and was made to whoever has shown
        a certificate then, which may be another at that address.

        Raises :class:`actors.outside.Unavailable`, with the address as it is to be ``named``, also while it is read.
        """
        http = client()
        request = http.build_request(
            method,
            self.url,
            content=content,
            headers={**headers, "Host": self.host} | ({"Connection": "close"} if self.url.scheme == "https" else {}),
            extensions={"sni_hostname": self.name},
        )
        try:
            response = http.send(request, stream=True)
            try:
                yield response
            finally:
                response.close()
        except httpx.TimeoutException as error:
            raise Unavailable(f"{named} did not answer within {load().http_timeout_s:g} s") from error
        except httpx.TransportError as error:
            raise Unavailable(f"{named} cannot be reached: {error}") from error


def resolve(host: str, port: int) -> list[str]:
    """Every address of a host, by the system's resolver.  Raises :class:`Unavailable`: a name may come back."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"{host!r} cannot be resolved: {error}") from error
    return [str(item[4][0]) for item in found]


class Gate:
    """Judges addresses.

    Parameters:
      allowed: networks that may be reached though they are not public, as the setting ``webhook_networks``.
      resolve: asked once for each URL.
    """

    def __init__(self, allowed: str = "", *, resolve: Resolve = resolve) -> None:
        self._allowed = networks_of(allowed)
        self._resolve = resolve

    def target(self, text: str) -> Target:
        """Where to connect for a URL.  Raises :class:`Forbidden`, and :class:`Unavailable` when it has no address."""
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL as error:
            raise Forbidden(text, f"it is no URL ({error})") from error
        if url.scheme not in PORTS:
            raise Forbidden(text, "only http:// and https:// are")
        if url.userinfo:
            raise Forbidden(text, "it has a user or a password in it")
        host = url.raw_host.decode("ascii")
        if not host:
            raise Forbidden(text, "it has no host")
        if _is_disguised(host):
            raise Forbidden(text, f"{host!r} is a number that some programs read as an address; write it as four")
        found = self._resolve(host, url.port or PORTS[url.scheme])
        if not found:
            raise Unavailable(f"{host!r} has no address")
        for address in map(ipaddress.ip_address, found):
            if why := self._wrong(address):
                raise Forbidden(text, f"{host} is {address}, which is {why}")
        port = f":{url.port}" if url.port else ""
        return Target(url.copy_with(host=found[0]), f"[{host}]{port}" if ":" in host else f"{host}{port}", host)

    def _wrong(self, address: Address) -> str:
        """Why nothing may be sent there; empty when it may."""
        if _is_within(address, self._allowed):
            return ""
        if isinstance(address, ipaddress.IPv6Address):
            # Where a network has only IPv6, its resolver writes the IPv4 addresses of others like that.
            plain = address.ipv4_mapped or (ipaddress.IPv4Address(address.packed[-4:]) if address in NAT64 else None)
            if plain is not None:
                return self._wrong(plain)
            if address.sixtofour or address.teredo:
                return "an IPv4 address in disguise"
            if address.scope_id:
                return "of one link only"
        if not address.is_global or address.is_multicast or address.is_reserved or _is_within(address, INSIDE):
            return "not public (HARELINE_WEBHOOK_NETWORKS names exceptions)"
        return ""


def _is_within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _is_disguised(host: str) -> bool:
    """Whether it is an address as inet_aton reads it (decimal, hex, octal, fewer parts), but not as people write it."""
    if ":" in host or not re.fullmatch(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}\.?", host, re.IGNORECASE):
        return False
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return True
    return False


@per_process
def client() -> httpx.Client:
    """This process's client.

    It heeds no proxy of the environment: that would connect to what it resolves itself.  It keeps no cookies: they
    would go to whoever else is at the same address.
    """
    none = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return httpx.Client(timeout=load().http_timeout_s, follow_redirects=False, trust_env=False, cookies=none)
