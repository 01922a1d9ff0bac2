"""A managed OPA on a signed bundle: what it refuses, and that a file which goes wrong later leaves the
policy in force. Real OPA, real keys.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.adapters.opa.policies import CHUNK, write_policies

from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.policies.bundle import build_bundle
from regate_adapters.opa.policies.signed import read_bundle
from regate_adapters.opa.policies.source import BrokenPolicy, read_source
from regate_adapters.opa.server.process import ManagedOpa
from regate_adapters.testing.opa import RunningOpa, running_opa
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.filters.expression import Matching
from regate_orchestrator.values import JsonObject

NEEDED = ["regate/chunk/allow", "system/authz/allow"]
TEXT, TEXTS = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
FIELDS = {"tenant": TEXT, "visibility": TEXT, "teams": TEXTS, "labels": TEXTS}
SCHEMA = {"type": "object", "properties": FIELDS, "required": list(FIELDS), "additionalProperties": False}
CLOSED = CHUNK.replace('visibility == "tenant"', 'visibility == "nobody"')
DOCUMENT: JsonObject = {
    "principal": {"tenant": "acme", "teams": []},
    "chunk": {"tenant": "acme", "visibility": "tenant", "teams": [], "labels": []},
}


@dataclass(frozen=True)
class Keys:
    """Two pairs of keys, as files: of whoever may sign, and of somebody else."""

    private: Path
    public: Path
    other: Path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    private, public, other = folder / "key.pem", folder / "public.pem", folder / "other.pem"
    plain = serialization.NoEncryption()
    for path in (private, other):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        )
        if path == private:
            form = serialization.PublicFormat.SubjectPublicKeyInfo
            public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return Keys(private, public, other)


Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path, opa: Path, keys: Keys) -> Build:
    """Builds and signs a bundle of these policies."""

    def built(
        name: str = "policy.tar.gz",
        *,
        chunk: str = CHUNK,
        key: Path | None = keys.private,
        revision: str | None = None,
    ) -> Path:
        folder = tmp_path / f"source-{name}"
        write_policies(folder, {"chunk/chunk.rego": chunk, "schemas/chunk.json": json.dumps(SCHEMA)})
        build_bundle(read_source(folder), tmp_path / name, opa=opa, signing_key=key, revision=revision)
        return tmp_path / name

    return built


def packed(files: Mapping[str, bytes], target: Path) -> Path:
    with tarfile.open(target, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return target


def managed(bundle: Path, opa: Path, key: Path) -> ManagedOpa:
    return ManagedOpa(bundle, opa=opa, required=NEEDED, verification_key=key)


async def refusal(bundle: Path, opa: Path, key: Path) -> str:
    process = managed(bundle, opa, key)
    with pytest.raises(BrokenPolicy) as refused:
        await process.__aenter__()
    assert process.pid is None
    assert not process.directory.parent.exists()
    return refused.value.message


# ---------------------------------------------------------------- at start


async def test_a_signed_bundle_is_served_under_its_revision_with_its_schemas(
    build: Build, opa: Path, keys: Keys
) -> None:
    process = managed(build(revision="2026-11-25.1"), opa, keys.public)
    async with process, OpaEngine(process.address, schemas={}, deadline_s=10) as engine:
        answer = await engine.ask("regate/chunk/allow", DOCUMENT)
        planned = await engine.plan(
            "regate/chunk/allow", {"principal": DOCUMENT["principal"]}, unknown="chunk"
        )
        schema = json.loads((process.directory / "schemas" / "chunk.json").read_text())

    assert (answer.value, answer.revision, planned.revision) == (True, "2026-11-25.1", "2026-11-25.1")
    assert isinstance(planned.plan, Matching)
    assert schema == SCHEMA


TAMPERED: dict[str, Callable[[dict[str, bytes]], None]] = {
    "a rule is changed": lambda files: files.update(
        {"chunk/chunk.rego": files["chunk/chunk.rego"].replace(b"not denied", b"true")}
    ),
    "the data are changed": lambda files: files.update(
        {"data.json": files["data.json"].replace(b"helpers", b"Helpers")}
    ),
    "a schema is changed": lambda files: files.update({"schemas/chunk.json": b"{}"}),
    "a rule is added": lambda files: files.update({"more.rego": b"package regate.chunk\n\nallow if true\n"}),
    "a schema is added": lambda files: files.update({"schemas/store.json": b"{}"}),
    "data are added": lambda files: files.update({"regate/data.json": b"{}"}),
    "a rule is left out": lambda files: files.update({"chunk/chunk.rego": b""}),
    "a file is left out": lambda files: files.__delitem__("chunk/chunk.rego"),
    "the signature is left out": lambda files: files.__delitem__(".signatures.json"),
    "there are no signatures": lambda files: files.update({".signatures.json": b'{"signatures": []}'}),
}


@pytest.mark.parametrize("name", TAMPERED)
async def test_a_bundle_that_was_tampered_with_is_refused(
    name: str, build: Build, opa: Path, keys: Keys, tmp_path: Path
) -> None:
    files = read_bundle(build())
    TAMPERED[name](files)

    assert "altered.tar.gz is refused: " in await refusal(
        packed(files, tmp_path / "altered.tar.gz"), opa, keys.public
    )


async def test_a_bundle_without_a_signature_or_with_somebody_elses_is_refused(
    build: Build, opa: Path, keys: Keys
) -> None:
    assert "bundle missing .signatures.json file" in await refusal(
        build("unsigned.tar.gz", key=None), opa, keys.public
    )
    assert "failed to verify JWT signature" in await refusal(
        build("foreign.tar.gz", key=keys.other), opa, keys.public
    )


async def test_the_public_key_is_no_secret_that_one_could_sign_with(
    build: Build, opa: Path, keys: Keys, tmp_path: Path
) -> None:
    folder = tmp_path / "forged"
    for name, content in read_bundle(build(key=None)).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    command = [
        str(opa),
        "sign",
        "--signing-alg",
        "HS256",
        "--signing-key",
        str(keys.public),
        "--bundle",
        ".",
        "--output-file-path",
        ".",
    ]
    subprocess.run(command, cwd=folder, check=True)
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }

    assert ".signatures.json" in files
    assert "failed to verify JWT signature" in await refusal(
        packed(files, tmp_path / "forged.tar.gz"), opa, keys.public
    )


async def test_a_bundle_that_can_be_read_in_two_ways_is_refused(
    build: Build, opa: Path, keys: Keys, tmp_path: Path
) -> None:
    files = read_bundle(build())
    for wrong in (
        "/chunk/chunk.rego",
        "./chunk/chunk.rego",
        "chunk//chunk.rego",
        "chunk/../chunk/chunk.rego",
        "chunk/./chunk.rego",
    ):
        twice = packed(
            {**files, wrong: b"package regate.chunk\n\nallow if true\n"}, tmp_path / "twice.tar.gz"
        )
        assert "is no plain file, or there twice" in await refusal(twice, opa, keys.public)


async def test_a_bundle_with_a_link_in_it_is_refused(
    build: Build, opa: Path, keys: Keys, tmp_path: Path
) -> None:
    linked = packed(read_bundle(build()), tmp_path / "linked.tar")
    with tarfile.open(tmp_path / "linked.tar.gz", "w:gz") as archive, tarfile.open(linked) as before:
        for member in before:
            archive.addfile(member, before.extractfile(member))
        entry = tarfile.TarInfo("more.rego")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)

    assert "'more.rego' is no plain file" in await refusal(tmp_path / "linked.tar.gz", opa, keys.public)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x1f\x8b" + bytes(40)])
async def test_a_file_that_is_no_bundle_is_refused(
    content: bytes, opa: Path, keys: Keys, tmp_path: Path
) -> None:
    (tmp_path / "b.tar.gz").write_bytes(content)

    assert (await refusal(tmp_path / "b.tar.gz", opa, keys.public)).startswith("b.tar.gz ")


async def test_a_bundle_that_is_not_there_is_refused(opa: Path, keys: Keys, tmp_path: Path) -> None:
    assert "b.tar.gz cannot be read as a bundle" in await refusal(tmp_path / "b.tar.gz", opa, keys.public)


async def test_a_bundle_that_lacks_a_rule_is_refused_though_it_is_signed(
    build: Build, opa: Path, keys: Keys
) -> None:
    assert "lacks regate/chunk/allow" in await refusal(
        build(chunk="package regate.chunk\n\nalow := true\n"), opa, keys.public
    )


async def test_a_signed_bundle_that_regate_did_not_build_is_refused(
    opa: Path, keys: Keys, tmp_path: Path
) -> None:
    folder = write_policies(tmp_path / "source", {"chunk/chunk.rego": CHUNK})
    command = [
        str(opa),
        "build",
        "--bundle",
        ".",
        "--output",
        str(tmp_path / "b.tar.gz"),
        "--signing-key",
        str(keys.private),
    ]
    subprocess.run(command, cwd=folder, check=True)

    assert "was not built by `regate policy build`" in await refusal(tmp_path / "b.tar.gz", opa, keys.public)


async def test_a_key_that_is_no_public_key_is_refused(
    build: Build, opa: Path, keys: Keys, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("a shared secret")
    for key in (keys.private, tmp_path / "secret"):
        assert "must be a file with an RSA public key" in await refusal(build(), opa, key)
    assert "opa.verification_key cannot be read" in await refusal(build(), opa, tmp_path / "absent")


# ---------------------------------------------------------------- while it serves


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the condition holds; how long that takes is the machine's."""
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.005)


def replaced(bundle: Path, by: Path) -> None:
    by.replace(bundle)


def overwritten(bundle: Path, by: Path) -> None:
    bundle.write_bytes(by.read_bytes())


@pytest.fixture
def running(build: Build, keys: Keys) -> RunningOpa:
    return running_opa(build(), required=NEEDED, verification_key=keys.public, deadline_s=10)


@pytest.mark.parametrize("put", [replaced, overwritten])
async def test_files_that_may_not_serve_change_nothing_and_a_good_one_is_taken_while_decisions_go_on(
    put: Callable[[Path, Path], None],
    running: RunningOpa,
    build: Build,
    keys: Keys,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "regate_adapters.opa.server.process._RELOAD_SECONDS", 30
    )  # or an OPA that is slow to load the good one would be restarted
    bundle, process = tmp_path / "policy.tar.gz", running.process
    altered = read_bundle(bundle)
    altered["chunk/chunk.rego"] = CHUNK.replace("not denied", "true").encode()
    bad = {
        "cut": build("whole.tar.gz", chunk=CLOSED).read_bytes()[:-500],
        "unsigned": build("unsigned.tar.gz", chunk=CLOSED, key=None).read_bytes(),
        "foreign": build("foreign.tar.gz", chunk=CLOSED, key=keys.other).read_bytes(),
        "altered": packed(altered, tmp_path / "altered.tar.gz").read_bytes(),
    }
    good = build("good.tar.gz", chunk=CLOSED)
    before, asked, done = "", 0, asyncio.Event()

    async with running as engine:
        before = process.revision

        async def ask() -> None:
            nonlocal asked
            while not done.is_set():
                answer = await engine.ask(
                    "regate/chunk/allow", DOCUMENT
                )  # whatever else it raises ends the test
                assert answer.value is (answer.revision == before)
                asked += 1

        async with asyncio.TaskGroup() as load:
            for _ in range(4):
                load.create_task(ask())
            for content in bad.values():
                (tmp_path / "next").write_bytes(content)
                earlier = process.problem
                put(bundle, tmp_path / "next")

                async def told(earlier: str | None = earlier) -> bool:
                    return process.problem not in (None, earlier)

                await until(told)
                assert await engine.revision() == before
            put(bundle, good)

            async def taken() -> bool:
                return process.problem is None and await engine.revision() != before

            await until(taken)
            done.set()
        last = await engine.ask("regate/chunk/allow", DOCUMENT)
        rule = (process.directory / "chunk" / "chunk.rego").read_text()

    assert (last.value, asked > 20, rule) == (False, True, CLOSED)


async def test_the_file_that_is_in_force_put_back_ends_the_problem(
    running: RunningOpa, tmp_path: Path
) -> None:
    bundle = tmp_path / "policy.tar.gz"
    content = bundle.read_bytes()
    async with running as engine:
        before = await engine.revision()
        bundle.unlink()

        async def told() -> bool:
            return running.process.problem is not None

        await until(told)
        bundle.write_bytes(content)

        async def mended() -> bool:
            return running.process.problem is None

        await until(mended)
        assert await engine.revision() == before


async def test_another_policy_under_the_same_revision_is_refused(
    build: Build, keys: Keys, tmp_path: Path
) -> None:
    bundle = build(revision="v1")
    running = running_opa(bundle, required=NEEDED, verification_key=keys.public, deadline_s=10)
    async with running as engine:
        replaced(bundle, build("other.tar.gz", chunk=CLOSED, revision="v1"))

        async def told() -> bool:
            return running.process.problem is not None

        await until(told)
        answer = await engine.ask("regate/chunk/allow", DOCUMENT)

    assert "is another policy under the revision in force, v1" in (running.process.problem or "")
    assert answer.value is True


async def test_opa_that_is_killed_after_a_bad_file_comes_back_with_the_last_good_one(
    running: RunningOpa, tmp_path: Path
) -> None:
    async with running as engine:
        before = await engine.revision()
        (tmp_path / "policy.tar.gz").write_bytes(b"nothing")

        async def told() -> bool:
            return running.process.problem is not None

        await until(told)
        os.kill(running.process.pid or 0, signal.SIGKILL)

        async def same_again() -> bool:
            try:
                return running.process.restarts > 0 and await engine.revision() == before
            except PolicyUnavailable:
                return False

        await until(same_again)


async def test_opa_verifies_what_it_loads_itself_at_every_start(running: RunningOpa, tmp_path: Path) -> None:
    async with running as engine:
        active = running.process.directory.parent / "active" / "policy.tar.gz"
        good, files = active.read_bytes(), read_bundle(active)
        files["chunk/chunk.rego"] = CHUNK.replace("not denied", "true").encode()
        active.write_bytes(packed(files, tmp_path / "altered.tar.gz").read_bytes())
        os.kill(running.process.pid or 0, signal.SIGKILL)

        async def tried_twice() -> bool:
            return running.process.restarts >= 2

        await until(tried_twice)
        with pytest.raises(PolicyUnavailable):
            await engine.ask("regate/chunk/allow", DOCUMENT)
        active.write_bytes(good)

        async def answers() -> bool:
            try:
                return (await engine.ask("regate/chunk/allow", DOCUMENT)).value is True
            except PolicyUnavailable:
                return False

        await until(answers)
        assert active.stat().st_mode & 0o777 == 0o600
