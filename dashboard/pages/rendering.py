"""A page: its template, and what every template has at hand."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dashboard.pages import drawing, flash, shown, tree
from dashboard.security import Principal
from dashboard.services import Services
from errors import HarelineError, NotAuthenticated

STATIC: Final = Path(__file__).parent / "static"

THEMES: Final = ("system", "light", "dark")
#: Seconds between two refreshes at the least; 0 is never.
INTERVALS: Final = (0, 2, 5, 15, 60)
_USUAL = 2

#: The navigation: (path, words, the key after g, the operation that shows it).
SECTIONS: Final = (
    (
        ("/", "Overview", "o", "get_overview"),
        ("/jobs", "Jobs", "j", "list_jobs"),
        ("/failures", "Failures", "f", "list_failures"),
        ("/flows", "Flows", "w", "list_flows"),
        ("/schedules", "Schedules", "s", "list_schedules"),
    ),
    (
        ("/queues", "Queues", "q", "list_queues"),
        ("/workers", "Workers", "k", "list_workers"),
        ("/limits", "Limits", "l", "list_limits"),
    ),
    (
        ("/operations", "Operations", "b", "list_operations"),
        ("/audit", "Audit", "a", "list_audit"),
        ("/settings", "Settings", "e", "get_me"),
    ),
)


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "number": shown.number,
        "compact": shown.compact,
        "duration": shown.duration,
        "size": shown.size,
        "percent": shown.percent,
        "pretty": lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str),
    }
    found.globals |= {
        "icon": icon,
        "sparkline": drawing.sparkline,
        "bars": drawing.bars,
        "tree": tree.tree,
        "INTERVALS": INTERVALS,
        "THEMES": THEMES,
    }
    return found


@cache
def _fingerprint(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]


@cache
def icon(name: str) -> Markup:
    """A drawing of 16 by 16 in the colour of the text; decorative, the words beside it say what it is."""
    return Markup(
        '<svg viewBox="0 0 16 16" width="15" height="15" fill="none" stroke="currentColor" stroke-width="1.4"'
        ' stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{}</svg>'
    ).format(Markup(_ICONS[name]))


_ICONS: Final[Mapping[str, str]] = {
    "Overview": '<path d="M2 9.5h3l1.8-6 2.6 9 1.7-5 .9 2h2"/>',
    "Jobs": '<path d="M5.5 4h8.5M5.5 8h8.5M5.5 12h8.5M2.2 4h.1M2.2 8h.1M2.2 12h.1"/>',
    "Failures": '<path d="M8 2.2l6.2 11H1.8zM8 6.5v3M8 11.4v.1"/>',
    "Flows": '<circle cx="3.5" cy="8" r="1.7"/><circle cx="12.5" cy="4" r="1.7"/><circle cx="12.5" cy="12" r="1.7"/>'
    '<path d="M5.2 7.4l5.7-2.7M5.2 8.7l5.7 2.6"/>',
    "Schedules": '<circle cx="8" cy="8" r="5.8"/><path d="M8 4.8V8l2.2 1.6"/>',
    "Queues": '<rect x="2" y="3" width="12" height="2.6" rx="1"/><rect x="2" y="6.9" width="12" height="2.6" rx="1"/>'
    '<rect x="2" y="10.8" width="7" height="2.6" rx="1"/>',
    "Workers": '<rect x="3.6" y="3.6" width="8.8" height="8.8" rx="1.6"/>'
    '<path d="M6.2 1.6v2M9.8 1.6v2M6.2 12.4v2M9.8 12.4v2M1.6 6.2h2M1.6 9.8h2M12.4 6.2h2M12.4 9.8h2"/>',
    "Limits": '<path d="M2.6 12A6 6 0 1 1 13.4 12M8 9.4l2.6-3.2"/>',
    "Operations": '<path d="M8.6 1.8L3.4 9h3.8l-.8 5.2L12.6 7H8.4z"/>',
    "Audit": '<path d="M3.2 2h7l2.6 2.6V14H3.2zM5.6 7h4.8M5.6 9.5h4.8M5.6 12h2.6"/>',
    "Settings": '<path d="M2 4.6h6.4M12.2 4.6H14M2 11.4h1.8M7.6 11.4H14"/><circle cx="10.3" cy="4.6" r="1.8"/>'
    '<circle cx="5.7" cy="11.4" r="1.8"/>',
    "search": '<circle cx="7" cy="7" r="4.4"/><path d="M10.4 10.4L14 14"/>',
    "theme": '<circle cx="8" cy="8" r="5.6"/><path d="M8 2.4v11.2a5.6 5.6 0 0 0 0-11.2z" fill="currentColor"/>',
    "link": '<path d="M6.5 3.5H3.2v9.3h9.3V9.5M9.5 2.5h4v4M13 3L7.5 8.5"/>',
}


def zone_of(request: Request) -> tzinfo:
    """The zone that the reader chose to see times in; UTC, if none or an unknown one."""
    name = unquote(request.cookies.get("hareline_zone", ""))
    try:
        return ZoneInfo(name) if name and name != "UTC" else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def _chosen(request: Request, cookie: str, among: tuple[Any, ...], usual: Any) -> Any:
    given = request.cookies.get(cookie, "")
    return next((value for value in among if str(value) == given), usual)


def url_for(root: str, path: str, parts: Sequence[object] = (), query: Mapping[str, object] | None = None) -> str:
    """A link below the prefix.

    Parameters:
      parts: segments behind the path, whatever is in them.
      query: what is empty in it is left out.
    """
    whole = "/".join((quote(path, safe="/:@!$,;=~*'()+"), *(quote(str(part), safe="~") for part in parts)))
    given = {name: value for name, value in (query or {}).items() if value not in (None, "", ())}
    return root + whole + (f"?{urlencode(given, doseq=True)}" if given else "")


class Shell:
    """What is around every page: who reads it, and how they like it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.root: str = request.scope.get("root_path", "")
        services: Services = request.app.state.services
        self.settings = services.settings
        self.me = _reader(request)
        self.theme: str = _chosen(request, "hareline_theme", THEMES, "system")
        self.interval: int = _chosen(request, "hareline_interval", INTERVALS, _USUAL)
        self.zone = zone_of(request)
        self.environment = self.settings.console_environment
        self.read_only = bool(self.me and self.me.read_only)
        self.can_log_out = not self.settings.console_insecure_local

    def url(self, path: str, *parts: object, **query: object) -> str:
        return url_for(self.root, path, parts, query)

    def here(self, **change: object) -> str:
        """This page with other parameters."""
        query: dict[str, object] = {name: self.request.query_params.getlist(name) for name in self.request.query_params}
        return url_for(self.root, self.path, (), query | change)

    def asset(self, name: str) -> str:
        return f"{self.root}/static/{name}?{_fingerprint(name)}"

    def may(self, operation: str) -> bool:
        return self.me is not None and self.me.may(operation)

    @property
    def path(self) -> str:
        return self.request.url.path.removeprefix(self.root) or "/"

    @property
    def navigation(self) -> list[list[tuple[str, str, str, bool]]]:
        """(path, words, key, whether it is here), of what the reader may see."""
        return [
            [
                (path, words, key, self.path == path or (path != "/" and self.path.startswith(f"{path}/")))
                for path, words, key, operation in section
                if self.may(operation)
            ]
            for section in SECTIONS
        ]


def _reader(request: Request) -> Principal | None:
    from dashboard.security import principal

    try:
        return principal(request)
    except NotAuthenticated:
        return None


def page(
    request: Request,
    template: str,
    *,
    now: datetime | None = None,
    status: int = 200,
    title: str = "",
    topics: str = "",
    **context: object,
) -> HTMLResponse:
    """A page as a response.

    Parameters:
      now: the database's clock, for the words about times; asked for, if not given.
      topics: of the events that make the page fetch itself again; empty: none.
    """
    shell = Shell(request)
    told = flash.read(request)
    html = (
        _environment()
        .get_template(template)
        .render(
            shell=shell,
            url=shell.url,
            here=shell.here,
            asset=shell.asset,
            may=shell.may,
            me=shell.me,
            clock=shown.Clock(now or _now(request), shell.zone),
            title=title,
            topics=topics,
            flash=told,
            csrf=shell.me.csrf if shell.me else "",
            **context,
        )
    )
    response = HTMLResponse(html, status)
    if told is not None:
        flash.forget(request, response)
    return response


def _now(request: Request) -> datetime:
    services: Services = request.app.state.services
    try:
        return services.queries.database_time()
    except HarelineError:  # the page that says so needs a time, too
        return datetime.now(UTC)


def wants_html(request: Request) -> bool:
    """Whether a browser asks for a page, not a program for the API."""
    root: str = request.scope.get("root_path", "")
    below = request.url.path.removeprefix(root)
    return not below.startswith(("/api/", "/metrics", "/graphql")) and "text/html" in request.headers.get("accept", "")
