"""Queue ``chain``: what happens on an Ethereum chain, and what is deployed there.

watch_chain          new blocks and logs ──► the actor, and the webhook, of the settings
deploy_multicall3    Multicall3, where the chain does not have it
"""

from collections.abc import Sequence
from typing import Annotated, Any

import dramatiq
import structlog
from dramatiq.errors import ActorNotFound
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from actors import blocks
from actors.blocks import Match, Tell
from actors.ethereum import CIRCUIT, Rpc, rpc
from actors.halts import halting
from actors.multicall3 import ID, Deployer
from actors.priorities import Priority
from actors.watching import Watcher
from actors.webhooks import WebhookEvent, deliver_webhook
from broker import transactional
from errors import Failure
from middleware.concurrency import Concurrency
from middleware.current import current_job_or_none
from settings import Settings, contracts_of, load, topics_of

#: The data of a match that is longer is not told, for messages have a limit.
LONGEST_DATA = 32_768
NAMES = {1: "Ethereum", 10: "Optimism", 137: "Polygon", 8453: "Base", 42161: "Arbitrum One", 11155111: "Sepolia"}

log = structlog.get_logger(__name__)


class WrongChain(Failure):
    """Raised when the server is of another chain than is expected."""

    def __init__(self, found: int, expected: str) -> None:
        super().__init__(
            f"the server of HARELINE_CHAIN_RPC_URL is of chain {named(found)}, and {expected}; correct one of them",
            code="wrong_chain",
        )


class Deployed(BaseModel):
    """Where a contract is."""

    chain: int
    address: str
    transaction: str | None  #: that brought it there, if it was one of ours


@dramatiq.actor(
    queue_name="chain",
    priority=Priority.HIGH,
    max_retries=9,
    max_backoff=60_000,
    time_limit=600_000,
    circuit=CIRCUIT,
    concurrency=Concurrency(1),
)
def watch_chain(from_block: Annotated[int, Field(ge=0)] | None = None) -> None:
    """Look at what is new on the chain, and tell the logs that match; with ``from_block``, look again from there on.

    A re-organisation is noticed by the hashes of the last blocks: what was told of blocks that have left the chain is
    told as removed, and those in their place are looked at.  One deeper than ``chain_reorg_depth`` is a dead letter.
    A run ends after five minutes; how far it came is stored with each range, and the next one goes on from there.

    One dead letter for each thing that needs a person: until it is well, later runs wait, and try each minute.

    Idempotent: matches are named by chain, block hash and index, and are recorded, told and passed in one transaction.
    """
    with halting("watch_chain"):
        settings = load()
        server = rpc()
        chain = demanded(server, settings)
        watcher = Watcher(
            server,
            chain,
            wanted_of(settings),
            settings.chain_confirmations,
            settings.chain_reorg_depth,
            settings.chain_batch_blocks,
            telling(settings),
        )
        job = current_job_or_none()
        before = blocks.cursor(chain)
        # An attempt that was interrupted had gone back already: the next one goes on.
        if from_block is not None and before is not None and (job is None or job.state is None):
            watcher.go_back(before, from_block)
            if job is not None:
                job.checkpoint({"gone_back_to": from_block})
        at = watcher.run(settings.chain_start_block if from_block is None else from_block)
    if at is not None and at != before:
        log.info("chain.watched", chain=chain, block=at.number, hash=at.hash)


@dramatiq.actor(
    queue_name="chain",
    priority=Priority.NORMAL,
    max_retries=5,
    max_backoff=60_000,
    time_limit=300_000,
    circuit=CIRCUIT,
    concurrency=Concurrency(1),
    store_results=True,
)
def deploy_multicall3(force: bool = False) -> Deployed:
    """Have Multicall3 on the chain, and prove it by a call of ``aggregate3``; where it is.

    Nothing is deployed while it is at the address of the settings, its usual one, or where it was deployed from here
    before.  ``force`` deploys one all the same.

    Idempotent: a transaction is signed once and stored before it is sent.  Whatever dies, the next attempt sends the
    same bytes, whose nonce lets them take effect once, and waits for their receipt.  A second job finds the contract.
    """
    settings = load()
    server = rpc()
    chain = demanded(server, settings)
    job = current_job_or_none()
    deployer = Deployer(server, chain, settings.chain_deployer_key)
    known = None if force else deployer.find(settings.chain_multicall_address)
    if known is not None:
        return Deployed(chain=chain, address=known, transaction=None)
    made = deployer.deploy(job.id if force and job is not None else ID)
    return Deployed(chain=chain, address=made.address, transaction=made.transaction_hash)


def demanded(server: Rpc, settings: Settings) -> int:
    """The chain of the server.  Raises :class:`WrongChain` when another one is expected, or known."""
    found = server.number("eth_chainId")
    if settings.chain_id is not None:
        if found != settings.chain_id:
            raise WrongChain(found, f"HARELINE_CHAIN_ID says {named(settings.chain_id)}")
    elif (known := blocks.chains()) and found not in known:
        raise WrongChain(found, f"what is stored is of {named(known[0])}; HARELINE_CHAIN_ID would say which is meant")
    return found


def named(chain: int) -> str:
    """Its number, and its name if that is known."""
    return f"{chain} ({NAMES[chain]})" if chain in NAMES else str(chain)


def wanted_of(settings: Settings) -> dict[str, Any] | None:
    """What is asked for, as in ``eth_getLogs``; None when nothing is."""
    addresses, topics = contracts_of(settings.chain_addresses), topics_of(settings.chain_topics)
    found = {"address": addresses, "topics": topics}
    return {name: value for name, value in found.items() if value} or None


def telling(settings: Settings) -> Tell:
    """What becomes of matches: a job of the actor and one of the webhook for each, in the caller's transaction.

    Raises ``Failure`` when there is no such actor.
    """
    url, name = settings.chain_webhook_url, settings.chain_actor
    try:
        actor = dramatiq.get_broker().get_actor(name) if name else None
    except ActorNotFound:
        raise Failure(f"HARELINE_CHAIN_ACTOR is {name!r}, and no actor has that name", code="no_actor") from None

    def tell(connection: Connection, matches: Sequence[Match]) -> None:
        with transactional(connection):
            for match in matches:
                told = match if len(match.data or "") <= LONGEST_DATA else match.model_copy(update={"data": None})
                if actor is not None:
                    actor.send(told.model_dump(mode="json"))
                if url is not None:
                    deliver_webhook.send(url, event_of(told))

    return tell


def event_of(match: Match) -> WebhookEvent:
    """The match for a webhook; its id names match and revision."""
    id = f"chain:{match.chain}:{match.block_hash}:{match.log_index}:{match.revision}"
    kind = "chain.log_removed" if match.removed else "chain.log"
    return WebhookEvent(id=id, type=kind, at=match.found_at, data=match.model_dump(mode="json"))
