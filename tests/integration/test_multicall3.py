"""Multicall3 is brought to a chain once, whatever dies, and proved."""

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from actors import deployments, multicall3
from actors.chain import Deployed, deploy_multicall3, watch_chain
from actors.database import database
from actors.extras import MissingExtra
from actors.multicall3 import CODE_HASHES, web3
from actors.outside import NotConfigured, Refused
from actors.tables import chain_deployments
from errors import Failure, Snooze
from hareline_testing import Hareline
from ledger.states import State
from tests.chain import KEY, ChainServer
from tests.scripted import cut_mid_body, status

pytestmark = pytest.mark.one_database


@pytest.fixture
def node(chain: ChainServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChainServer]:
    restore = chain.branch()
    monkeypatch.setenv("HARELINE_CHAIN_RPC_URL", chain.url)
    monkeypatch.setenv("HARELINE_CHAIN_DEPLOYER_KEY", KEY)
    yield chain
    restore()
    chain.reset()


def code_hash(node: ChainServer, address: str) -> str:
    return web3().keccak(hexstr=node.tester.get_code(address)).hex()


def test_it_is_deployed_once_and_found_afterwards(
    kit: Hareline, node: ChainServer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    first = deploy_multicall3.send()
    kit.drain()
    made = Deployed.model_validate(first.get_result())
    assert code_hash(node, made.address) in CODE_HASHES
    height = node.height

    second = deploy_multicall3.send()
    kit.drain()
    assert Deployed.model_validate(second.get_result()) == Deployed(
        chain=node.id, address=made.address, transaction=None
    )
    assert node.height == height
    assert node.methods.count("eth_sendRawTransaction") == 1

    with database().read() as connection:
        kept = str(connection.execute(select(chain_deployments)).all())
    printed = capsys.readouterr()
    for text in (kept, caplog.text, printed.out, printed.err, str(node.requests)):
        assert KEY.removeprefix("0x") not in text


def test_an_attempt_after_one_that_has_sent_it_finds_the_contract(kit: Hareline, node: ChainServer) -> None:
    height = node.height
    node.errors["eth_getTransactionReceipt"] = [{"code": -32603, "message": "internal error"}]
    job = kit.wait_for(deploy_multicall3.send(), raises=False)
    assert (job.state, job.attempts_spent) == (State.COMPLETED, 2)
    assert node.methods.count("eth_sendRawTransaction") == 1, "the second attempt found the contract"
    assert node.height == height + 1


def test_a_transaction_whose_answer_was_lost_is_sent_again_and_mined_once(actors_here: Any, node: ChainServer) -> None:
    height = node.height
    node.tester.disable_auto_mine_transactions()
    try:
        actors_here.setattr(multicall3, "WAIT_S", 0.0)
        with pytest.raises(Snooze, match="not mined yet"):
            deploy_multicall3.fn()
        node.errors["eth_sendRawTransaction"] = [{"code": -32000, "message": "already known"}]
        with pytest.raises(Snooze, match="not mined yet"):
            deploy_multicall3.fn()
    finally:
        node.tester.enable_auto_mine_transactions()
    made = deploy_multicall3.fn()

    sent = {str(asked["params"]) for _, asked in node.requests if asked["method"] == "eth_sendRawTransaction"}
    assert len(sent) == 1
    assert node.height == height + 1
    assert deployments.newest(node.id) == made.address


def test_a_transaction_whose_nonce_another_has_used_is_signed_anew(actors_here: Any, node: ChainServer) -> None:
    node.errors["eth_sendRawTransaction"] = [{"code": -32603, "message": "internal error"}]
    with pytest.raises(Exception, match="internal error"):
        deploy_multicall3.fn()
    first = deployments.deployment(node.id, multicall3.ID)
    node.pay()
    deploy_multicall3.fn()
    second = deployments.deployment(node.id, multicall3.ID)
    assert first is not None
    assert second is not None
    assert second.nonce == first.nonce + 1
    assert second.address != first.address


def test_forced_another_one_is_deployed(kit: Hareline, node: ChainServer) -> None:
    addresses = []
    for force in (False, True, False):
        sent = deploy_multicall3.send(force)
        kit.drain()
        addresses.append(Deployed.model_validate(sent.get_result()).address)
    assert addresses[1] == addresses[2] != addresses[0]


def test_what_is_at_the_usual_address_is_known_by_its_code(actors_here: Any, node: ChainServer) -> None:
    actors_here.setattr(multicall3, "USUAL", node.teller)
    made = deploy_multicall3.fn()
    assert made.address != node.teller, "the code there is another"

    with database().write() as connection:
        connection.execute(chain_deployments.delete())
    actors_here.setattr(multicall3, "USUAL", made.address)
    assert deploy_multicall3.fn().address == made.address
    assert node.methods.count("eth_sendRawTransaction") == 1


def test_an_address_of_the_settings_has_to_answer(actors_here: Any, node: ChainServer) -> None:
    for address, words in ((node.teller, "is not Multicall3"), ("0x" + "cd" * 20, "has nothing at")):
        actors_here.setenv("HARELINE_CHAIN_MULTICALL_ADDRESS", address)
        with pytest.raises(Refused, match=words):
            deploy_multicall3.fn()
    assert "eth_sendRawTransaction" not in node.methods


def test_without_money_or_key_nothing_is_deployed_and_the_error_says_so(actors_here: Any, node: ChainServer) -> None:
    node.errors["eth_sendRawTransaction"] = [{"code": -32000, "message": "transaction underpriced"}]
    with pytest.raises(Refused, match="underpriced"):
        deploy_multicall3.fn()
    actors_here.setenv("HARELINE_CHAIN_DEPLOYER_KEY", "0x" + "77" * 32)
    with pytest.raises(Refused, match="insufficient funds") as caught:
        deploy_multicall3.fn()
    assert "7777" not in str(caught.value)
    assert deployments.deployment(node.id, multicall3.ID) is None

    actors_here.delenv("HARELINE_CHAIN_DEPLOYER_KEY")
    with pytest.raises(NotConfigured, match="HARELINE_CHAIN_DEPLOYER_KEY is not set"):
        deploy_multicall3.fn()


def test_without_the_extra_this_job_alone_says_what_to_install(actors_here: Any, node: ChainServer) -> None:
    actors_here.setitem(sys.modules, "web3", None)
    with pytest.raises(MissingExtra, match=r"pip install 'hareline\[chain\]'"):
        deploy_multicall3.fn()
    watch_chain.fn()


def test_creation_code_that_was_changed_is_not_deployed(actors_here: Any, node: ChainServer, tmp_path: Any) -> None:
    code = multicall3.CREATION.read_text().replace("60", "61", 1)
    (tmp_path / "multicall3.hex").write_text(code)
    actors_here.setattr(multicall3, "CREATION", tmp_path / "multicall3.hex")
    with pytest.raises(Failure, match="is not the creation code"):
        deploy_multicall3.fn()


def test_a_server_that_fails_on_the_way_is_asked_again(kit: Hareline, node: ChainServer) -> None:
    node.script = [status(429, Retry_After="5"), status(500), cut_mid_body]
    job = kit.wait_for(deploy_multicall3.send(), raises=False)
    assert (job.state, job.attempts_spent) == (State.COMPLETED, 3)
