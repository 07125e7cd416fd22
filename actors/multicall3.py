"""Multicall3: many calls of contracts in one (mds1/multicall; its creation code is in ``vendor/``)."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import SecretStr

from actors import deployments
from actors.deployments import Deployment
from actors.ethereum import KnownTransaction, NoMethod, Rpc
from actors.extras import extra
from actors.outside import Refused, needed
from errors import Failure, Snooze
from middleware.current import current_job_or_none

if TYPE_CHECKING:
    from web3 import Web3

#: What deployments of it are stored under, but for forced ones.
ID = "multicall3"
#: Where it is on most chains.
USUAL = "0xcA11bde05977b3631167028862bE2a173976CA11"
CREATION = Path(__file__).parent / "vendor/multicall3.hex"
CREATION_HASH = "0388a0d41a63e5bbe5b1005f52975ef622c77817a483f36849c5447365555071"
#: The code of the contract, as its authors deployed it and as it is deployed from here.  What is at the usual address
#: need not be it: the key that deployed there has leaked.
CODE_HASHES = (
    "d5c15df687b16f2ff992fc8d767b4216323184a2bbc6ee2f9c398c318e770891",
    "5a29a1eb2f59e45e4249b938c8192cac0d2bd32398e1afa03f302a867db692ea",
)
#: How long an attempt waits for a transaction to be mined, and after how long the next one does.
WAIT_S = 30.0
LATER_MS = 15_000
#: Added to what the server estimates.
MARGIN = 1.2
#: The tip, in wei, where the server cannot say what is usual.
TIP = 1_000_000_000

_CALL = {
    "name": "calls",
    "type": "tuple[]",
    "components": [
        {"name": "target", "type": "address"},
        {"name": "allowFailure", "type": "bool"},
        {"name": "callData", "type": "bytes"},
    ],
}
_RESULT = {
    "name": "returnData",
    "type": "tuple[]",
    "components": [{"name": "success", "type": "bool"}, {"name": "returnData", "type": "bytes"}],
}
_CHAIN_ID = {"name": "chainid", "type": "uint256"}
ABI: list[dict[str, Any]] = [
    {"type": "function", "name": "aggregate3", "stateMutability": "payable", "inputs": [_CALL], "outputs": [_RESULT]},
    {"type": "function", "name": "getChainId", "stateMutability": "view", "inputs": [], "outputs": [_CHAIN_ID]},
]

log = structlog.get_logger(__name__)


class Deployer:
    """Finds the contract on a chain, or brings it there.

    Parameters:
      key: signs, and is in no error and no line of the log.
    """

    def __init__(self, rpc: Rpc, chain: int, key: SecretStr | None) -> None:
        self._rpc = rpc
        self._chain = chain
        self._key = key
        self._web3 = web3()

    def find(self, configured: str | None) -> str | None:
        """Where it is: at the address of the settings, where it was deployed from here, or at its usual one.

        Raises ``Refused`` when the settings' address has something else.
        """
        if configured is not None:
            if not self._code(configured):
                raise Refused(f"chain {self._chain} has nothing at HARELINE_CHAIN_MULTICALL_ADDRESS ({configured})")
            self.prove(configured)
            return configured
        ours = deployments.newest(self._chain)
        if ours is not None and self._code(ours):
            self.prove(ours)
            return ours
        code = self._code(USUAL)
        if code and self._web3.keccak(code).hex() in CODE_HASHES:
            self.prove(USUAL)
            return USUAL
        if code:
            log.warning("multicall3.impostor", chain=self._chain, address=USUAL, why="its code is another")
        return None

    def deploy(self, id: str) -> Deployment:
        """Bring it there; at once when the transaction of this id is mined.

        Raises ``Snooze`` while it is not, and ``Failure`` when it had no effect or is refused.
        """
        key = needed(self._key, "chain_deployer_key", f"nothing can be deployed on chain {self._chain}")
        made = deployments.deployment(self._chain, id)
        if made is None or self._void(made):
            made = self._signed(id, key)
            deployments.keep(made)
        if not self._code(made.address):
            self._send(made)
            self._wait(made)
        self.prove(made.address)
        deployments.proved(made)
        log.info("multicall3.deployed", chain=made.chain, address=made.address, transaction=made.transaction_hash)
        return made

    def prove(self, address: str) -> None:
        """Ask it for the chain's number by ``aggregate3``.  Raises ``Refused`` when it does not answer like that."""
        from eth_abi.exceptions import DecodingError

        contract = self._web3.eth.contract(abi=ABI)
        question = contract.encode_abi("getChainId")
        target = self._web3.to_checksum_address(address)
        calls = contract.encode_abi("aggregate3", args=[[(target, False, question)]])
        said = self._rpc.data("eth_call", {"to": address, "data": calls}, "latest")
        try:
            [[[success, answer]]] = self._web3.codec.decode(["(bool,bytes)[]"], bytes.fromhex(said[2:]))
        except (DecodingError, ValueError) as error:  # no such answer, or not one result
            raise Refused(f"what is at {address} on chain {self._chain} is not Multicall3: {error}") from error
        if not success or int.from_bytes(answer) != self._chain:
            raise Refused(f"Multicall3 at {address} says that chain {self._chain} is {int.from_bytes(answer)}")

    def _code(self, address: str) -> bytes:
        return bytes.fromhex(self._rpc.data("eth_getCode", address, "latest")[2:])

    def _receipt(self, made: Deployment) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._rpc.ask("eth_getTransactionReceipt", made.transaction_hash)
        return found

    def _void(self, made: Deployment) -> bool:
        """Whether another transaction has used its nonce, so that it will never be mined."""
        # Asked in this order: what is mined between the two questions has a receipt.
        used = self._rpc.number("eth_getTransactionCount", made.sender, "latest") > made.nonce
        return used and self._receipt(made) is None and not self._code(made.address)

    def _signed(self, id: str, key: SecretStr) -> Deployment:
        from web3.types import Nonce
        from web3.utils import get_create_address

        account = self._web3.eth.account.from_key(key.get_secret_value())
        data = creation(self._web3)
        nonce = self._rpc.number("eth_getTransactionCount", account.address, "pending")
        gas = self._rpc.number("eth_estimateGas", {"from": account.address, "data": data})
        wanted = {"data": data, "nonce": nonce, "gas": int(gas * MARGIN), "chainId": self._chain, "value": 0}
        signed = account.sign_transaction({**wanted, **self._fees()})
        return Deployment(
            self._chain,
            id,
            get_create_address(account.address, Nonce(nonce)),
            account.address,
            nonce,
            "0x" + signed.hash.hex().removeprefix("0x"),
            "0x" + signed.raw_transaction.hex().removeprefix("0x"),
        )

    def _fees(self) -> dict[str, int]:
        base = self._rpc.head().base_fee
        if base is None:
            return {"gasPrice": self._rpc.number("eth_gasPrice")}
        try:
            tip = self._rpc.number("eth_maxPriorityFeePerGas")
        except NoMethod:
            tip = TIP
        return {"maxFeePerGas": 2 * base + tip, "maxPriorityFeePerGas": tip}

    def _send(self, made: Deployment) -> None:
        try:
            self._rpc.ask("eth_sendRawTransaction", made.raw)
        except KnownTransaction:
            log.info("multicall3.sent_before", transaction=made.transaction_hash)
        except Refused:
            deployments.forget(made)  # it is nowhere; the next attempt signs one by the fees of then
            raise

    def _wait(self, made: Deployment) -> None:
        job, deadline = current_job_or_none(), time.monotonic() + WAIT_S
        while (receipt := self._receipt(made)) is None:
            if job is not None:
                job.check()
            if time.monotonic() > deadline:
                raise Snooze(LATER_MS, f"transaction {made.transaction_hash} is not mined yet")
            time.sleep(0.5)
        if receipt.get("status") != "0x1":
            deployments.forget(made)
            raise Failure(f"transaction {made.transaction_hash} was mined, and made no contract", code="reverted")


def creation(library: "Web3") -> str:
    """The code that makes the contract.  Raises ``Failure`` when the file is not as it was published."""
    code = CREATION.read_text().strip()
    if library.keccak(hexstr=code).hex().removeprefix("0x") != CREATION_HASH:
        raise Failure(f"{CREATION.name} is not the creation code of Multicall3; install again", code="damaged")
    return code


def web3() -> "Web3":
    """The library, connected to nothing.  Raises :class:`~actors.extras.MissingExtra`."""
    library: Web3 = extra("web3", "Multicall3", "'hareline[chain]'").Web3()
    return library
