"""What changes: nudges for pages."""

from typing import Annotated

from fastapi import Header, Query, Request
from fastapi.responses import StreamingResponse

from dashboard import live
from dashboard.api.router import Routes
from dashboard.security import principal
from errors import BadInput, nearest
from ledger.revisions import Topic

router = Routes(tags=["live"])

_STREAM = {
    "description": "Server-sent events: `event` is a topic, `data` is `{topic, rev}`. What has changed is not said.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


class EventStream(StreamingResponse):
    media_type = "text/event-stream"


@router.get("/events", response_class=EventStream, responses={200: _STREAM})
async def follow_events(
    request: Request,
    topics: Annotated[str, Query(max_length=200, description="Of these topics, by commas; of all when empty.")] = "",
    last_event_id: Annotated[
        str | None, Header(max_length=200, description="Sent by browsers that come again.")
    ] = None,
) -> EventStream:
    """Be nudged when something has changed: then ask for it again."""
    asks = principal(request)
    hub: live.Hub = request.app.state.live
    stream = hub.open(_topics(topics), f"{asks.name} {asks.token}".strip())
    return EventStream(live.told(hub, stream, again=last_event_id is not None), headers={"X-Accel-Buffering": "no"})


def _topics(text: str) -> list[Topic]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in list(Topic):
            raise BadInput(f"there is no topic {name!r}; {nearest(name, Topic)}")
    return [Topic(name) for name in names] or list(Topic)
