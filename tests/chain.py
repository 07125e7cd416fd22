"""An Ethereum chain in this process, behind a server that speaks its JSON-RPC."""

import json
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.scripted import Scripted, respond

#: Tells the second 32 bytes it is called with, under the first 32 as its topic:
#:     mstore(0, calldataload(32)) log1(0, 32, calldataload(0)) stop
#: behind what copies these fifteen bytes to be the contract.
TELLER = "0x600f600c600039600f6000f3" + "602035600052" + "600035" + "60206000" + "a1" + "00"
TOPIC = "0x" + "11" * 32
OTHER_TOPIC = "0x" + "22" * 32
#: Of an account with ten ether.
KEY = "0x" + "46" * 32
MINERS = ("0x" + "aa" * 20, "0x" + "bb" * 20)

Error = dict[str, Any]


class ChainServer(Scripted):
    """A chain, and what a node answers about it.

    ``script`` and ``answer`` are for whole HTTP answers, as with :class:`Scripted`; ``errors`` are for the next
    requests of a method, each the ``error`` of an answer; ``absent`` are methods that it does not have.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(port=port)
        limit = sys.getrecursionlimit()
        from eth_tester import EthereumTester, PyEVMBackend  # takes seconds

        sys.setrecursionlimit(limit)  # py-evm raises it so far that deep JSON overflows the stack, and Python dies
        self.tester = EthereumTester(PyEVMBackend())
        self.answer = self._as_node
        self.errors: dict[str, list[Error]] = {}
        self.absent: set[str] = set()
        self.most_blocks = 0  #: whose logs one request may ask for
        self.id = 0
        self.reset()
        self._filters: dict[str, Any] = {}
        self.payer = self.tester.add_account(KEY)
        self._transact({"to": self.payer, "value": 10**19})
        receipt = self.tester.get_transaction_receipt(self._transact({"data": TELLER}))
        self.teller = str(receipt["contract_address"])

    def reset(self) -> None:
        """Answer as at the beginning, and remember nothing that was asked."""
        self.id = int(self.tester.backend.chain.chain_id)
        self.most_blocks = 1_000_000
        for kept in (self.script, self.requests, self.headers, self.bodies, self.errors, self.absent):
            kept.clear()

    @property
    def methods(self) -> list[str]:
        """Of the requests so far."""
        return [sent["method"] for _, sent in self.requests]

    @property
    def height(self) -> int:
        return int(self.tester.get_block_by_number("latest")["number"])

    def hash(self, number: int) -> str:
        return str(self.tester.get_block_by_number(number)["hash"])

    def mine(self, count: int = 1, miner: int = 0) -> None:
        """Empty blocks; another miner's have other hashes."""
        with self.lock:
            self.tester.mine_blocks(count, coinbase=MINERS[miner])

    def tell(self, value: int, topic: str = TOPIC) -> None:
        """A block with a log."""
        with self.lock:
            data = topic + value.to_bytes(32).hex()
            self._transact({"to": self.teller, "data": data})

    def branch(self) -> Callable[[], None]:
        """What is mined from here on leaves the chain when the answer is called."""
        snapshot = self.tester.take_snapshot()

        def back() -> None:
            with self.lock:
                self.tester.revert_to_snapshot(snapshot)

        return back

    def pay(self) -> None:
        """A transaction of the account whose key is ``KEY``."""
        with self.lock:
            self._transact({"from": self.payer, "to": self.teller})

    def _transact(self, what: dict[str, Any]) -> Any:
        sender = self.tester.get_accounts()[0]
        return self.tester.send_transaction({"from": sender, "gas": 200_000, **what})

    def _as_node(self, request: BaseHTTPRequestHandler) -> None:
        sent = json.loads(request.body)  # type: ignore[attr-defined]
        method, id = sent["method"], sent["id"]
        with self.lock:
            if waiting := self.errors.get(method):
                answer: dict[str, Any] = {"error": waiting.pop(0)}
            elif method in self.absent:
                answer = {"error": {"code": -32601, "message": f"the method {method} does not exist/is not available"}}
            else:
                answer = self._of(method, sent["params"])
        respond(200, {"jsonrpc": "2.0", "id": id, **answer})(request)

    def _of(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        from eth_tester.exceptions import BlockNotFound, TransactionFailed, TransactionNotFound
        from eth_utils.exceptions import ValidationError

        try:
            match method, *params:
                case ["eth_chainId"]:
                    return {"result": hex(self.id)}
                case ["eth_getBlockByNumber", number, _]:
                    return {"result": self._block(number)}
                case ["eth_getLogs", criteria]:
                    return self._logs(criteria)
                case ["eth_newFilter", criteria]:
                    id = hex(len(self._filters) + 1)
                    self._filters[id] = criteria
                    return {"result": id}
                case ["eth_getFilterLogs", id]:
                    return self._logs(self._filters[id])
                case ["eth_uninstallFilter", id]:
                    return {"result": self._filters.pop(id, None) is not None}
                case ["eth_getCode", address, "latest"]:
                    return {"result": self.tester.get_code(address)}
                case ["eth_getTransactionCount", address, _]:
                    return {"result": hex(self.tester.get_nonce(address))}
                case ["eth_maxPriorityFeePerGas"]:
                    return {"result": hex(10**9)}
                case ["eth_estimateGas", what]:
                    return {"result": hex(self.tester.estimate_gas(what))}
                case ["eth_call", what, "latest"]:
                    called = {"from": self.tester.get_accounts()[0], "gas": 3_000_000, **what}
                    return {"result": self.tester.call(called)}
                case ["eth_sendRawTransaction", raw]:
                    return {"result": self.tester.send_raw_transaction(raw)}
                case ["eth_getTransactionReceipt", hash]:
                    return {"result": self._receipt(hash)}
        except (BlockNotFound, TransactionNotFound):
            return {"result": None}
        except TransactionFailed as error:
            return {"error": {"code": 3, "message": f"execution reverted: {error}"}}
        except ValidationError as error:
            return {"error": {"code": -32000, "message": f"insufficient funds for gas * price + value: {error}"}}
        return {"error": {"code": -32601, "message": f"the method {method} does not exist/is not available"}}

    def _block(self, number: str) -> dict[str, Any]:
        found = self.tester.get_block_by_number("latest" if number == "latest" else int(number, 16))
        names = {"hash": "hash", "parentHash": "parent_hash"}
        numbers = {"number": "number", "baseFeePerGas": "base_fee_per_gas", "timestamp": "timestamp"}
        texts = {name: found[key] for name, key in names.items()}
        return {**texts, **{name: hex(found[key]) for name, key in numbers.items()}}

    def _receipt(self, hash: str) -> dict[str, Any]:
        found = self.tester.get_transaction_receipt(hash)
        return {"status": hex(found["status"]), "contractAddress": found["contract_address"]}

    def _logs(self, criteria: dict[str, Any]) -> dict[str, Any]:
        if (hash := criteria.get("blockHash")) is not None:
            first = last = int(self.tester.get_block_by_hash(hash)["number"])
        else:
            first, last = int(criteria["fromBlock"], 16), int(criteria["toBlock"], 16)
        if last - first + 1 > self.most_blocks:
            return {"error": {"code": -32602, "message": f"block range is too large, at most {self.most_blocks}"}}
        found = self.tester.get_logs(first, last, criteria.get("address"), criteria.get("topics"))
        return {"result": [_log(entry) for entry in found]}


def _log(entry: dict[str, Any]) -> dict[str, Any]:
    names = {"address": "address", "data": "data", "blockHash": "block_hash", "transactionHash": "transaction_hash"}
    numbers = {"blockNumber": "block_number", "logIndex": "log_index"}
    texts = {name: entry[key] for name, key in names.items()}
    return {**texts, **{name: hex(entry[key]) for name, key in numbers.items()}, "topics": list(entry["topics"])}


def main() -> None:
    """``python -m tests.chain PORT``: a chain with a contract that has told three numbers, until it is interrupted."""
    with ChainServer(port=int(sys.argv[1]) if sys.argv[1:] else 0) as server:
        for number in (1, 2, 3):
            server.tell(number)
        print(f"a chain at {server.url}, with a contract at {server.teller}", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
