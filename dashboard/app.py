"""build(settings) -> FastAPI: the console and the HTTP API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from broker import Broker
from dashboard import api, dramatiq_pages, pages, probes, problems, security
from dashboard.bounded import Bounded
from dashboard.live import Hub
from dashboard.prefix import Prefixed
from dashboard.services import Services
from settings import Settings


def build(settings: Settings, *, broker: Broker | None = None) -> FastAPI:
    """The application.  Does no I/O: what it needs is opened when it starts, and closed when it ends.

    Parameters:
      broker: whose actors may be sent to; that of ``actors``, if not given.

    Raises ``SettingsError`` when it may not be served like that.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened.start()
        try:
            yield
        finally:
            app.state.live.close()
            opened.close()

    app = FastAPI(
        title="Hareline",
        version=version("hareline"),
        summary="Look at jobs, send them, and operate what runs them.",
        lifespan=lifespan,
        openapi_url=None,  # served by the API, to those who may see it
        docs_url=None,
        redoc_url=None,
    )
    opened = app.state.services = Services(settings, broker or _actors())
    app.state.live = Hub(settings.database_url)
    app.state.readiness = probes.readiness_of(opened)
    problems.install(app)
    api.install(app, settings)
    app.include_router(probes.router)
    app.include_router(dramatiq_pages.router)
    pages.install(app)
    app.add_middleware(Bounded)
    security.install(app, settings)
    app.add_middleware(Prefixed, prefix=settings.console_prefix)  # around all others
    return app


def _actors() -> Broker:
    from actors import broker  # reads the settings

    return broker
