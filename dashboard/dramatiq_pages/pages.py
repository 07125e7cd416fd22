"""The package's application with our interface, links and forms in it."""

import base64
import hashlib
import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

from dramatiq_dashboard import DashboardApp
from jinja2 import ChoiceLoader, FileSystemLoader, FunctionLoader, PrefixLoader
from markupsafe import Markup

from control.road import QueueRoad
from dashboard.dramatiq_pages.interface import Interface

#: Which operation a form of its asks for, by what it says on the button and the list it is in.
REQUEUE, DELETE, CANCEL = "retry_job", "remove_job", "cancel_job"

#: Its pages are as wide as their longest line, and never narrower than 1,024 pixels.
_NARROW = """
      .container { max-width: calc(100% - 24px); }
      .row > * { min-width: 0; }
      .panel__content { overflow-x: auto; }
      .table pre { white-space: pre-wrap; overflow-wrap: anywhere; }
      .table__subject--mono { min-width: 14em; }
"""


@dataclass(frozen=True)
class Visit:
    """One request."""

    interface: Interface
    prefix: str  #: of the console
    traffic: tuple[QueueRoad, ...] = ()


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    location: str | None


_visit: ContextVar[Visit] = ContextVar("visit")


class Pages(DashboardApp):  # type: ignore[misc]  # the package has no types
    """One for the process; :meth:`get` answers one request at a time on each thread."""

    def __init__(self) -> None:
        # It registers its Lua scripts when it is made, and has no use for them afterwards.
        redis = SimpleNamespace(register_script=lambda script: None)
        super().__init__(SimpleNamespace(client=redis), "")
        self.make_uri = make_uri
        theirs = self.templates.loader
        ours = FileSystemLoader(Path(__file__).parent / "templates")
        base = theirs.get_source(self.templates, "_base.html")[0].replace("</style>", _NARROW + "    </style>")
        fitting = FunctionLoader({"_base.html": base}.get)
        self.templates.loader = ChoiceLoader([ours, fitting, PrefixLoader({"theirs": theirs}), theirs])
        self.templates.filters["timeago"] = timeago
        self.templates.globals |= {
            "make_uri": make_uri,
            "csrf_token": csrf_token,
            "may": may,
            "console": lambda path: _visit.get().prefix + path,
            "traffic": lambda: _visit.get().traffic,
        }

    @property
    def iface(self) -> Interface:
        return _visit.get().interface

    @iface.setter
    def iface(self, unused: object) -> None:
        """It sets one for Redis, which is never asked."""

    @cached_property
    def style(self) -> str:
        """The one inline style of its pages, as a Content-Security-Policy names it."""
        source = self.templates.loader.get_source(self.templates, "_base.html")[0]
        [style] = re.findall(r"<style>(.*?)</style>", source, re.DOTALL)
        return "'sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() + "'"

    def get(self, visit: Visit, path: str, cursor: int | None) -> Answer:
        """What it answers to a GET of ``path``, which begins with a slash.  Blocks."""
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "QUERY_STRING": f"cursor={cursor}" if cursor else "",
            "CONTENT_LENGTH": "0",
            "wsgi.input": BytesIO(),
        }
        started: list[tuple[str, list[tuple[str, str]]]] = []
        token = _visit.set(visit)
        try:
            chunks: Iterable[bytes] = self(environ, lambda *start: started.append(start))
            body = b"".join(chunks)
        finally:
            _visit.reset(token)
        status, headers = started[0]
        location = next((value for name, value in headers if name.lower() == "location"), None)
        return Answer(int(status.partition(" ")[0]), body, location)


def make_uri(*segments: object, params: dict[str, Any] | None = None) -> str:
    """A link of its own, below where it is served."""
    path = "/".join(quote(str(segment), safe="") for segment in segments)
    return f"{_visit.get().prefix}/dramatiq/{path}" + (f"?{urlencode(params)}" if params else "")


def csrf_token() -> Markup:
    return Markup('<input type="hidden" name="csrf_token" value="{}">').format(_visit.get().interface.reader.csrf)


def may(label: str, physical: str) -> bool:
    """Whether the reader may do what a button says, in this list."""
    operation = REQUEUE if label == "Requeue" else DELETE if physical.endswith(".XQ") else CANCEL
    return _visit.get().interface.reader.may(operation)


def timeago(at: datetime) -> str:
    seconds = (datetime.now(UTC) - at).total_seconds()
    size, unit = next(((s, u) for s, u in _UNITS if abs(seconds) >= s), (1, "s"))
    words = f"{abs(seconds) // size:.0f}{unit}"
    return f"in {words}" if seconds < 0 else f"{words} ago"


_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
