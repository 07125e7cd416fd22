"""Below a proxy's path."""

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Prefixed:
    """Serves an application below ``prefix``, whether the proxy passes that part of the path on or takes it away.

    Only whole segments count: below ``/ops``, ``/opsx`` is a path like any other, which nothing has.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.prefix:
            path: str = scope["path"]
            if path == self.prefix:
                return await RedirectResponse(f"{self.prefix}/", 308)(scope, receive, send)
            if not path.startswith(f"{self.prefix}/"):
                path = self.prefix + path
            scope = {**scope, "path": path, "raw_path": path.encode(), "root_path": self.prefix}
        await self.app(scope, receive, send)
