"""A managed OPA is never given what is outside of the fragment, or asks for what is not there: not at
start, not later, not in a signed bundle.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.adapters.opa.policies import bundle_with, write_policies
from tests.patience import wait_patiently

from regate_adapters.opa.policies.signed import read_bundle
from regate_adapters.opa.policies.source import BrokenPolicy
from regate_adapters.opa.server.process import ManagedOpa
from regate_adapters.testing.opa import running_opa
from regate_orchestrator.filters.expression import Matching
from regate_orchestrator.values import JsonObject

wait_patiently()

REGO: Final = Path(__file__).parents[3] / "rego"
CUSTOM: Final = "custom/store/store.rego"
WIDE: Final = """package regate.custom.store

deny if _near(input.store.visibility)

_near(x) := true if x == "tenant"

_near(x) := false if x == "attributes"
"""
NARROW: Final = 'package regate.custom.store\n\ndeny if input.store.visibility == "tenant"\n'
ASKING: Final = "package regate.chunk\n\nredact := [`x`]\n"
SAID: Final = {
    "outside": (CUSTOM, WIDE, f"{CUSTOM}:3: no-functions: _near is given input.store"),
    "asking": (
        "chunk/redact.rego",
        ASKING,
        "chunk/redact.rego:3: no-such-control: regate.chunk.redact asks in vain",
    ),
}
LISTING: Final[JsonObject] = {
    "v": 1, "now": 1, "request_id": "r", "action": "store.list",
    "principal": {
        "id": "ann", "tenant": "acme", "teams": [], "roles": [], "projects": [], "namespaces": [],
            "scopes": [], "clearance": 0, "attrs": {},
    },
}  # fmt: skip


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return Path(shutil.copytree(REGO, tmp_path / "rego"))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the condition holds; how long that takes is the machine's."""
    async with asyncio.timeout(120):
        while not await condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", SAID)
async def test_opa_is_not_started_and_rule_and_line_are_told(name: str, shipped: Path, opa: Path) -> None:
    file, text, said = SAID[name]
    process = ManagedOpa(write_policies(shipped, {file: text}), opa=opa)

    with pytest.raises(BrokenPolicy) as refused:
        await process.__aenter__()

    assert refused.value.message.startswith(said)
    assert process.pid is None


@pytest.mark.parametrize("name", SAID)
async def test_the_policy_in_force_stays_and_the_problem_is_told_until_it_is_mended(
    name: str, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "regate_adapters.opa.server.process._RELOAD_SECONDS", 60
    )  # or an OPA that is slow to load the change would be restarted
    file, text, said = SAID[name]
    running = running_opa(shipped, deadline_s=30)
    async with running as engine:
        before = await engine.revision()
        write_policies(shipped, {file: text})

        async def told() -> bool:
            return running.process.problem is not None

        await until(told)
        assert (running.process.problem or "").startswith(said)
        assert await engine.revision() == before
        assert isinstance((await engine.plan("regate/store/allow", LISTING, unknown="store")).plan, Matching)
        (shipped / file).unlink()
        write_policies(shipped, {CUSTOM: NARROW})

        async def mended() -> bool:
            return running.process.problem is None and await engine.revision() != before

        await until(mended)


@dataclass(frozen=True)
class Signer:
    """Somebody who may sign policies, and signs whatever they like with OPA's own command."""

    opa: Path
    folder: Path

    @property
    def public(self) -> Path:
        return self.folder / "public.pem"

    def bundle(self, policies: Path, changes: Mapping[str, str]) -> Path:
        """Return a signed bundle of the policies with changes that `regate policy build` would have
        refused.
        """
        files = read_bundle(
            bundle_with(policies, changes, self.folder / "altered.tar.gz", opa=self.opa, revision="r1")
        )
        place = self.folder / "signing"
        for name, content in files.items():
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        key = ["--signing-alg", "RS256", "--signing-key", str(self.folder / "key.pem")]
        subprocess.run(
            [self.opa, "sign", *key, "--bundle", ".", "--output-file-path", "."], cwd=place, check=True
        )
        target = self.folder / "signed.tar.gz"
        subprocess.run(
            ["tar", "-czf", target, *sorted(path.name for path in place.iterdir())], cwd=place, check=True
        )
        return target


@pytest.fixture
def signer(tmp_path: Path, opa: Path) -> Signer:
    folder = tmp_path / "signer"
    folder.mkdir()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "public.pem").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return Signer(opa, folder)


@pytest.mark.parametrize("name", SAID)
async def test_a_signature_does_not_replace_the_check(
    name: str, shipped: Path, opa: Path, signer: Signer
) -> None:
    file, text, said = SAID[name]
    process = ManagedOpa(signer.bundle(shipped, {file: text}), opa=opa, verification_key=signer.public)

    with pytest.raises(BrokenPolicy) as refused:
        await process.__aenter__()

    assert refused.value.message.startswith(said)


async def test_what_is_within_the_fragment_is_served_by_its_signature(
    shipped: Path, opa: Path, signer: Signer
) -> None:
    async with ManagedOpa(
        signer.bundle(shipped, {CUSTOM: NARROW}), opa=opa, verification_key=signer.public
    ) as process:
        assert process.revision == "r1"
