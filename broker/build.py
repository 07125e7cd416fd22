"""build(settings) -> Broker."""

from collections.abc import Mapping

from dramatiq.middleware import AsyncIO, Callbacks, Pipelines
from dramatiq.results import Results

from broker.amqp import AmqpRoad
from broker.broker import Broker, concurrency_of
from broker.desk import Desk
from broker.letters import Projection
from broker.lifecycle import Lifecycle
from broker.local import LocalRoad
from broker.road import Road
from control.jobs import cancel_waiting
from ledger import open_ledger
from ledger.migrate import Migrations
from ledger.queries import Queries
from ledger.recorder import Recorder
from ledger.records import Keep
from middleware.audit import Audit
from middleware.capacity import Capacity
from middleware.current import Current
from middleware.deadlines import Deadlines
from middleware.groups import Groups
from middleware.heartbeat import Heartbeat
from middleware.maintenance import Duty, Maintenance
from middleware.relay import Relay
from middleware.rescuer import Rescuer
from middleware.results import LedgerResults
from middleware.retries import Retries
from rabbitmq.consumer import Consumers
from rabbitmq.management import passive_counts, purge
from rabbitmq.publisher import Publisher
from rabbitmq.topology import Topology
from settings import Settings
