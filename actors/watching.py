"""Looking at a chain: from the last known block to the newest, and back where it was re-organised."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from actors import blocks
from actors.blocks import Cursor, Tell
from actors.ethereum import Header, Rpc, TooMany
from actors.outside import Unavailable
from errors import Failure
from middleware.current import current_job_or_none

#: A run ends after so long, and the next one goes on.
PATIENCE_S = 300.0
#: Blocks that may yet be replaced are looked at one by one, so many in one transaction.
NEAR = 16
#: A server that contradicts itself more often in one run is left alone for a while.
TURNS = 3

log = structlog.get_logger(__name__)


class ReorgTooDeep(Failure):
    """Raised when a chain was re-organised deeper than its blocks are remembered."""

    def __init__(self, chain: int, number: int, was: str, now: str | None) -> None:
        super().__init__(
            f"chain {chain} was re-organised deeper than HARELINE_CHAIN_REORG_DEPTH: block {number} was {was} and is "
            f"{now or 'not there'}; nothing was taken back. See whether the server is right; then send "
            f"watch_chain(from_block=N), with N before the fork: matches that do not hold are taken back from there on",
            code="reorg_too_deep",
        )


@dataclass
class Watcher:
    """One run at one chain.

    Far from the newest block a range is asked for its logs.  The last ``depth`` blocks are asked one by one, by their
    hash, each the child of the one before: what is recorded of them is of one chain, whatever the server's is now.

    Parameters:
      wanted: ``address`` and ``topics`` as in ``eth_getLogs``; None asks for no logs.
      confirmations: blocks there have to be on top of one.
      depth: blocks that may be replaced.
      batch: most blocks of a range; halved while the server finds it too large.
      tell: what becomes of matches, in the transaction that records them.
    """

    rpc: Rpc
    chain: int
    wanted: Mapping[str, object] | None
    confirmations: int
    depth: int
    batch: int
    tell: Tell
    turns: int = field(default=0, init=False)

    def run(self, start: int | None) -> Cursor | None:
        """Catch up; where it is then, None while there is nothing to look at.

        Parameters:
          start: where to begin with a chain that was never looked at; None is the newest block.

        Raises :class:`ReorgTooDeep`, and what :class:`~actors.ethereum.Rpc` raises.
        """
        head = self.rpc.head()
        target = head.number - self.confirmations
        at = blocks.cursor(self.chain)
        if at is None:
            if target < 0:
                return None
            at = blocks.begin(self.chain, self._before(target if start is None else start))
        else:
            at = self._verified(at, head)
        began, deadline = at.number, time.monotonic() + PATIENCE_S
        job = current_job_or_none()
        while at.number < target and time.monotonic() < deadline:
            if job is not None:
                job.check()
                done = max(at.number - began, 0)
                job.progress(done, max(target - began, done), f"block {at.number}")
            at = self._forward(at, target)
        if job is not None and at.number > began:
            job.progress(at.number - began, max(target, at.number) - began, f"block {at.number}")
        return at

    def go_back(self, at: Cursor, start: int) -> None:
        """Let the next run begin at ``start``; matches from there on whose block was replaced are taken back."""
        before = self._before(start)
        orphans = set()
        for number, hash in blocks.matched(self.chain, start):
            now = self.rpc.header(number)
            if now is None or now.hash != hash:
                orphans.add(hash)
        log.info("chain.again", chain=self.chain, start=start, orphans=len(orphans))
        blocks.turn_back(at, before, orphans=orphans, tell=self.tell)

    def _forward(self, at: Cursor, target: int) -> Cursor:
        settled = target - self.depth
        if at.number < settled:
            return self._far(at, min(at.number + self.batch, settled))
        return self._near(at, min(at.number + NEAR, target))

    def _far(self, at: Cursor, last: int) -> Cursor:
        top = self._there(last)
        try:
            found = [] if self.wanted is None else self.rpc.logs(at.number + 1, last, self.wanted)
        except TooMany:
            if last == at.number + 1:
                raise
            self.batch = (last - at.number) // 2
            log.info("chain.range_halved", chain=self.chain, blocks=self.batch)
            return at
        if any(entry.number == last and entry.block_hash != top.hash for entry in found):
            raise Unavailable(f"block {last} of chain {self.chain} was replaced while its logs were asked for")
        return blocks.advance(at, [top], found, depth=self.depth, tell=self.tell)

    def _near(self, at: Cursor, last: int) -> Cursor:
        passed: list[Header] = []
        parent = at.hash if at.number >= 0 else None  # what a first block names as its parent differs
        for number in range(at.number + 1, last + 1):
            header = self._there(number)
            if parent not in (None, header.parent):
                break
            passed.append(header)
            parent = header.hash
        if not passed:
            return self._turn_back(at)
        found = [] if self.wanted is None else [entry for one in passed for entry in self.rpc.logs_of(one, self.wanted)]
        return blocks.advance(at, passed, found, depth=self.depth, tell=self.tell)

    def _verified(self, at: Cursor, head: Header) -> Cursor:
        """The cursor, back where its block was replaced."""
        if at.number < 0:
            return at
        if head.number < at.number:  # a shorter chain, or a server that is behind
            known = dict(blocks.recent(self.chain)).get(head.number)
            if known is None:
                raise Unavailable(
                    f"the chain's server is at block {head.number}, and chain {self.chain} was looked at up to "
                    f"{at.number}; it is behind, or its chain was begun anew: then send watch_chain(from_block=0)"
                )
            return at if known == head.hash else self._turn_back(at)
        now = head if head.number == at.number else self._there(at.number)
        return at if now.hash == at.hash else self._turn_back(at)

    def _turn_back(self, at: Cursor) -> Cursor:
        """Back to the last block that is still on the chain."""
        self.turns += 1
        if self.turns > TURNS:
            raise Unavailable(f"the chain's server contradicts itself about block {at.number} of chain {self.chain}")
        kept = blocks.recent(self.chain)
        now: Header | None = None
        for number, hash in kept:
            now = self.rpc.header(number)
            if now is not None and now.hash == hash:
                log.warning("chain.reorganised", chain=self.chain, depth=at.number - number, back_to=number)
                return blocks.turn_back(at, now, tell=self.tell)
        number, hash = kept[-1] if kept else (at.number, at.hash)
        if number == at.first and now is not None:  # nothing was looked at before it
            log.warning("chain.reorganised", chain=self.chain, depth=at.number - number, back_to=number)
            return blocks.turn_back(at, now, tell=self.tell)
        raise ReorgTooDeep(self.chain, number, hash, now.hash if now else None)

    def _before(self, start: int) -> Header | None:
        if start == 0:
            return None
        found = self.rpc.header(start - 1)
        if found is None:
            raise Failure(f"chain {self.chain} has no block {start - 1} yet; take an earlier one", code="no_block")
        return found

    def _there(self, number: int) -> Header:
        found = self.rpc.header(number)
        if found is None:
            raise Unavailable(f"the chain's server has no block {number}, and had a later one; it is behind another")
        return found
