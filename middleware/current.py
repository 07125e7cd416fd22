"""The message being processed, for actors that ask."""

from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import CurrentMessage


class Current(CurrentMessage):
    """Dramatiq's CurrentMessage, which forgets to let go of a skipped message."""

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        self._MESSAGE.set(None)
