"""What other clients of OPA are told of the shipped kind of policy is what the gateway is told."""

from __future__ import annotations

from pathlib import Path

import aiohttp
from opa_client.opa_async import AsyncOpaClient
from tests.adapters.opa.policies import CHUNK, write_policies

from regate_adapters.testing.opa import running_opa
from regate_orchestrator.values import JsonObject

DOCUMENT: JsonObject = {
    "v": 1,
    "now": 1_800_000_000,
    "request_id": "r1",
    "action": "chunk.read",
    "principal": {"tenant": "acme", "teams": ["hr"]},
    "chunk": {"tenant": "acme", "visibility": "attributes", "teams": ["hr"], "labels": []},
}


class OverSocket(AsyncOpaClient):  # type: ignore[misc] # untyped
    """The client of the field, over a unix socket, which it has no setting for."""

    def __init__(self, socket: Path, token: str) -> None:
        super().__init__(host="opa", token=token, retries=0)
        self._socket, self._bearer = socket, f"Bearer {token}"

    async def _init_session(self) -> None:
        connector = aiohttp.UnixConnector(str(self._socket))
        self._session = aiohttp.ClientSession(connector=connector, headers={"Authorization": self._bearer})


async def test_opa_python_client_is_told_the_same(tmp_path: Path) -> None:
    async with running_opa(write_policies(tmp_path, {"chunk/chunk.rego": CHUNK}), deadline_s=60) as engine:
        address = engine._client._address
        ours = await engine.ask("regate/chunk/allow", DOCUMENT)
        assert address.socket is not None
        async with OverSocket(address.socket, address.token or "") as client:
            theirs = await client.query_rule(DOCUMENT, package_path="regate.chunk", rule_name="allow")

    assert ours.value is theirs["result"] is True
