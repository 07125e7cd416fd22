"""Why RabbitMQ cannot be reached, and what to do about it, in words."""

import socket
from collections.abc import Iterator

from pika import exceptions
from pika.adapters.utils import connection_workflow


def explain(error: BaseException, address: str, user: str, vhost: str) -> str:
    """One sentence that says what is wrong with the connection to ``address``, and the remedy."""
    chain = list(_unwrap(error))
    words = "; ".join(str(link) or type(link).__name__ for link in chain[-1:])
    for link in chain:
        match link:
            case exceptions.ProbableAuthenticationError() | exceptions.AuthenticationError():
                return (
                    f"RabbitMQ at {address} refuses user {user!r}: check the user and the password in BROKER_URL, "
                    f"or set it with `rabbitmqctl change_password {user} …`"
                )
            case exceptions.ProbableAccessDeniedError():
                return (
                    f"RabbitMQ at {address} does not let user {user!r} into virtual host {vhost!r}: create it with "
                    f"`rabbitmqctl add_vhost {vhost}` and `rabbitmqctl set_permissions -p {vhost} {user} …` ({words})"
                )
            case exceptions.IncompatibleProtocolError():
                return (
                    f"what listens at {address} does not speak AMQP 0-9-1: check host and port in BROKER_URL ({words})"
                )
            case ConnectionRefusedError():
                return f"nothing listens at {address}: start RabbitMQ there, or correct BROKER_URL"
            case socket.gaierror():
                return f"the host name in {address} is unknown: correct BROKER_URL ({words})"
            case TimeoutError() | connection_workflow.AMQPConnectorSocketConnectError() if link is chain[-1]:
                return f"RabbitMQ at {address} does not answer: check the network, or start it ({words})"
            case connection_workflow.AMQPConnectorStackTimeout():
                return f"RabbitMQ at {address} accepts connections but does not answer: is it still starting, or stuck?"
            case exceptions.AMQPHeartbeatTimeout():
                return f"the connection to RabbitMQ at {address} went silent: {words}"
            case exceptions.ConnectionClosedByBroker():
                return f"RabbitMQ at {address} closed the connection: {link.reply_code} {link.reply_text}"
            case exceptions.ConnectionClosedByClient():
                return "closed by us"
    return f"the connection to RabbitMQ at {address} was lost: {words}"


def _unwrap(error: BaseException) -> Iterator[BaseException]:
    """The error and what pika wrapped in it, outermost first."""
    yield error
    inner: list[object] = [*getattr(error, "exceptions", ())[-1:], getattr(error, "exception", None), *error.args[:1]]
    for candidate in inner:
        if isinstance(candidate, BaseException):
            yield from _unwrap(candidate)
            return
