"""How much a request may bring."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.problems import problem

#: Bytes a request's body may have.
MOST = 1_048_576


class Bounded:
    """Refuses bodies that are larger: by what they say of themselves, and by counting."""

    def __init__(self, app: ASGIApp, most: int = MOST) -> None:
        self.app = app
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        said = dict(scope["headers"]).get(b"content-length", b"")
        detail = f"a request's body has {self.most:,} bytes at most"
        if said.isdigit() and int(said) > self.most:
            return await problem(413, detail)(scope, receive, send)
        had = 0

        async def counted() -> Message:
            nonlocal had
            message = await receive()
            had += len(message.get("body", b""))
            if had > self.most:
                raise HTTPException(413, detail)
            return message

        await self.app(scope, counted, send)
