"""A server that speaks Ethereum's JSON-RPC: a node's, or that of a provider."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, TypeVar

import httpx
import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from actors.outside import DEFAULT_DELAY_MS, Refused, Service, Unavailable, needed
from actors.per_process import per_process
from errors import HarelineError, RateLimited
from middleware.circuit import Circuit
from settings import load

T = TypeVar("T")

#: Shared by all that asks it: while it is down, none of them tries.
CIRCUIT = Circuit("chain", counts=Unavailable)
#: How often a filter is made anew that the server has lost.
FILTERS = 3

log = structlog.get_logger(__name__)


class TooMany(Refused):
    """Raised when the logs of so many blocks are more than the server answers at once."""


class NoMethod(Refused):
    """Raised when the server does not have the method."""


class KnownTransaction(Refused):
    """Raised when the server has the transaction, or its nonce has been used."""


class FilterLost(Unavailable):
    """Raised when the server does not know a filter any more: it restarted, or another one answers."""


def _number(value: object) -> object:
    return int(value, 16) if isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{1,64}", value) else None


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Quantity = Annotated[int, BeforeValidator(_number)]
Hash = Annotated[str, BeforeValidator(_lower), Field(pattern=r"^0x[0-9a-f]{64}$")]
Address = Annotated[str, BeforeValidator(_lower), Field(pattern=r"^0x[0-9a-f]{40}$")]
Data = Annotated[str, BeforeValidator(_lower), Field(pattern=r"^0x([0-9a-f]{2})*$")]


class Header(BaseModel):
    """A block, as far as it tells of others."""

    model_config = ConfigDict(frozen=True)

    number: Quantity
    hash: Hash
    parent: Annotated[Hash, Field(alias="parentHash")]
    base_fee: Annotated[Quantity | None, Field(alias="baseFeePerGas")] = None


class Log(BaseModel):
    """What a contract has told in a transaction."""

    model_config = ConfigDict(frozen=True)

    number: Annotated[Quantity, Field(alias="blockNumber")]
    block_hash: Annotated[Hash, Field(alias="blockHash")]
    log_index: Annotated[Quantity, Field(alias="logIndex")]
    transaction_hash: Annotated[Hash, Field(alias="transactionHash")]
    address: Address
    topics: Annotated[list[Hash], Field(max_length=4)]
    data: Data


class _Answer(BaseModel):
    result: Any = None
    error: Any = None


_LOGS = TypeAdapter(list[Log])
_HEADER = TypeAdapter(Header | None)
_QUANTITY: TypeAdapter[int] = TypeAdapter(Quantity)
_DATA: TypeAdapter[str] = TypeAdapter(Data)


class Rpc(Service):
    """One such server.  Thread-safe; raises what :class:`~actors.outside.Service` and :func:`meaning` raise.

    Logs are asked for with ``eth_getLogs``, which needs no memory of the server's.  Filters live in one process of
    one node, so what stands behind a provider's address forgets them at any time; a server that has nothing else is
    asked by one all the same, which is used once, and made anew when it is lost.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        # Its address often ends with a key: no error quotes it.
        super().__init__(url, timeout_s=timeout_s, check="HARELINE_CHAIN_RPC_URL", name="the chain's server")
        self._by_filter = False

    def ask(self, method: str, *params: object) -> Any:
        """The result of a method."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = self.post("", body)
        try:
            said = _Answer.model_validate_json(answer.content)
        except ValidationError as error:
            what = answer.text[:200]
            raise Unavailable(f"the chain's server answered {method} with no JSON-RPC: {what!r}") from error
        if said.error is not None:
            raise meaning(said.error, method)
        return said.result

    def problem(self, response: httpx.Response, said: str) -> Exception:
        """As everywhere; but some servers give an error of the protocol with a status that says less."""
        if response.status_code not in (401, 403, 429):
            with suppress(ValidationError):
                if error := _Answer.model_validate_json(response.content).error:
                    return meaning(error, f"with status {response.status_code}")
        return super().problem(response, said)

    def number(self, method: str, *params: object) -> int:
        """The result of a method that is a number."""
        return self._read(_QUANTITY, method, *params)

    def data(self, method: str, *params: object) -> str:
        """The result of a method that is bytes, as hexadecimal text."""
        return self._read(_DATA, method, *params)

    def header(self, number: int | None = None) -> Header | None:
        """The block of this number, or the newest; None when the chain is not so long."""
        return self._read(_HEADER, "eth_getBlockByNumber", "latest" if number is None else hex(number), False)

    def head(self) -> Header:
        """The newest block."""
        found = self.header()
        if found is None:
            raise Unavailable("the chain's server has no newest block; it is starting")
        return found

    def logs(self, first: int, last: int, wanted: Mapping[str, object]) -> list[Log]:
        """The logs of a range of blocks that fit.  Raises :class:`TooMany`."""
        found = self._logs({"fromBlock": hex(first), "toBlock": hex(last), **wanted})
        if strange := [entry for entry in found if not first <= entry.number <= last]:
            raise Unavailable(f"asked for logs of blocks {first} to {last}, the server gave one of {strange[0].number}")
        return found

    def logs_of(self, block: Header, wanted: Mapping[str, object]) -> list[Log]:
        """The logs of exactly this block that fit, whatever has its number by now.  Raises :class:`TooMany`."""
        if self._by_filter:
            found = self.logs(block.number, block.number, wanted)
        else:
            found = self._logs({"blockHash": block.hash, **wanted}, instead={"fromBlock": hex(block.number)})
        if any(entry.block_hash != block.hash for entry in found):
            raise Unavailable(f"block {block.number} was replaced while its logs were asked for")
        return found

    def _logs(self, criteria: Mapping[str, object], instead: Mapping[str, object] | None = None) -> list[Log]:
        if not self._by_filter:
            try:
                return self._read(_LOGS, "eth_getLogs", criteria)
            except NoMethod:
                log.info("chain.by_filter", why="the server has no eth_getLogs")
                self._by_filter = True
        if instead is not None:  # filters know no hashes
            rest = {name: value for name, value in criteria.items() if name != "blockHash"}
            criteria = {**rest, **instead, "toBlock": instead["fromBlock"]}
        for _ in range(FILTERS):
            filter = self.ask("eth_newFilter", criteria)
            try:
                found = self._read(_LOGS, "eth_getFilterLogs", filter)
            except FilterLost:
                log.info("chain.filter_lost", what="it is made anew")
                continue
            with suppress(HarelineError):  # servers drop what is not asked for
                self.ask("eth_uninstallFilter", filter)
            return found
        raise Unavailable(f"the chain's server lost a filter {FILTERS} times, before it was asked for its logs")

    def _read(self, kind: "TypeAdapter[T]", method: str, *params: object) -> T:
        try:
            return kind.validate_python(self.ask(method, *params))
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, wrong["loc"]))
            raise Unavailable(
                f"the chain's server answered {method} in another shape: {where}: {wrong['msg']}"
            ) from error


#: What servers say, in so many words, where a code means several things; the first that fits decides.
_WORDS: Sequence[tuple[type[HarelineError], str]] = (
    (FilterLost, r"filter not found"),
    (RateLimited, r"rate limit|too many requests|request (rate|count|limit)|throttl|capacity|daily"),
    (TooMany, r"more than \d+ (results|logs)|(block|query) range|range (is )?too|too (large|wide|big)"),
    (TooMany, r"too many (results|logs|blocks)|response size|returned more|exceeds? (the )?(max|limit)|query timeout"),
    (KnownTransaction, r"nonce too low|already (known|imported)|known transaction|alreadyexists"),
    (Refused, r"revert|insufficient funds|underpriced|intrinsic gas|out of gas|gas limit|allowance|max fee|chain ?id"),
    (Refused, r"invalid (sender|signature|opcode)"),
)
#: Errors that are in the request, and would be there again.
_OURS = (-32700, -32600, -32602, 3)


def meaning(error: Any, method: str) -> Exception:
    """What an error of JSON-RPC means to a job."""
    code, text = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, error)
    said = f"the chain's server refused {method}: {str(text)[:300]} (code {code})"
    if code == -32601:
        return NoMethod(said, code="no_method")
    for kind, words in _WORDS:
        if re.search(words, str(text), re.IGNORECASE):
            return RateLimited(DEFAULT_DELAY_MS, said) if kind is RateLimited else kind(said)
    if code in (-32005, -32016, 429):
        return RateLimited(DEFAULT_DELAY_MS, said)
    return Refused(said) if code in _OURS else Unavailable(said)


def rpc() -> Rpc:
    """This process's client of the server in the settings.  Raises ``NotConfigured``."""
    return needed(_client(), "chain_rpc_url", "no chain can be asked")


@per_process
def _client() -> Rpc | None:
    settings = load()
    if settings.chain_rpc_url is None:
        return None
    return Rpc(settings.chain_rpc_url.get_secret_value(), timeout_s=settings.http_timeout_s)
