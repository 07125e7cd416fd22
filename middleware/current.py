"""The message being processed, for actors that ask."""

from typing import Any

from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import CurrentMessage


class Current(CurrentMessage):
    """Dramatiq's CurrentMessage, which forgets to let go of a skipped message."""

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        self.after_process_message(broker, message)


def current_message() -> Any:
    """The message whose actor runs in this thread, or None."""
    return CurrentMessage.get_current_message()
