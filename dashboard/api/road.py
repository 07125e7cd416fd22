"""RabbitMQ as a whole."""

from control.road import RoadState
from dashboard.api.router import Routes, may
from dashboard.services import Opened
from errors import NotFound

router = Routes(tags=["system"])


@router.get("/road", responses=may(404))
def get_road(opened: Opened) -> RoadState:
    """How RabbitMQ is, as of the last look; what is not known is null."""
    if opened.road is None:
        raise NotFound("there is no RabbitMQ: the ledger carries the jobs itself (BROKER_URL is not set)")
    return opened.road.state(opened.queries.scope)
