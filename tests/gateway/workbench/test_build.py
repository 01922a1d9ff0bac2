"""`regate policy build`: a bundle that a separate OPA loads by its signature, refuses once altered,
and names the revision of.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from regate_adapters.opa.policies.source import read_source
from regate_gateway.cli.main import main


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A private and a public key, as files."""
    folder = tmp_path_factory.mktemp("keys")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private, public = folder / "key.pem", folder / "public.pem"
    plain = serialization.NoEncryption()
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


def build(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["policy", "build", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    built: dict[str, Any] = json.loads(result.stdout)
    return built


def loaded(opa: Path, bundle: Path, public: Path) -> str:
    """What an OPA says that runs the bundle with the verification key: that it serves, or why it does not."""
    command = [
        opa,
        "run",
        "--server",
        "--addr",
        f"unix://{bundle.parent}/opa.sock",
        "--bundle",
        bundle,
        "--verification-key",
        public,
    ]
    command += ["--skip-version-check", "--log-level", "info", "--log-format", "json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={})
    said = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if "Initializing server" in line:
                break
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stdout.close() if process.stdout else None
    return "".join(said)


def altered(bundle: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    with tarfile.open(bundle) as before, tarfile.open(target, "w:gz") as after:
        for member in before:
            # Bundles hold files only
            content = change(member.name, before.extractfile(member).read())  # type: ignore[union-attr]
            member.size = len(content)
            after.addfile(member, io.BytesIO(content))
    return target


def test_a_signed_bundle_is_loaded_and_an_altered_one_is_refused(
    policies: Path, tmp_path: Path, opa: Path, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    bundle = tmp_path / "bundle.tar.gz"
    built = build("--policy", policies, "--output", bundle, "--signing-key", private)

    widened = altered(
        bundle,
        tmp_path / "widened.tar.gz",
        lambda name, text: text.replace(b"default allow := false", b"default allow := true"),
    )
    data = altered(
        bundle, tmp_path / "data.tar.gz", lambda name, text: text.replace(b'"hr-only"', b'"hr-onlyx"')
    )
    renamed = altered(
        bundle,
        tmp_path / "meta.tar.gz",
        lambda name, text: text.replace(built["revision"].encode(), b"0" * len(built["revision"])),
    )

    assert built["signed"] is True
    assert "Initializing server" in loaded(opa, bundle, public)
    for tampered in (widened, data, renamed):
        said = loaded(opa, tampered, public)
        assert "Initializing server" not in said
        assert "digest mismatch" in said


def test_an_unsigned_bundle_is_refused_where_a_signature_is_expected(
    policies: Path, tmp_path: Path, opa: Path, keys: tuple[Path, Path]
) -> None:
    bundle = tmp_path / "bundle.tar.gz"
    built = build("--policy", policies, "--output", bundle)

    assert built["signed"] is False
    assert "Initializing server" not in loaded(opa, bundle, keys[1])


def test_what_is_printed_describes_the_file(policies: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar.gz"
    built = build("--policy", policies, "--output", bundle)

    with tarfile.open(bundle) as archive:
        names = [member.name for member in archive if member.isfile()]
        # It is there, or this fails
        manifest = json.load(archive.extractfile("/.manifest"))  # type: ignore[arg-type]
    assert (built["files"], built["size"]) == (len(names), bundle.stat().st_size)
    assert built["revision"] == manifest["revision"] == read_source(policies).revision


def test_a_revision_given_is_the_one_that_decisions_carry(policies: Path, tmp_path: Path, opa: Path) -> None:
    bundle = tmp_path / "bundle.tar.gz"
    built = build("--policy", policies, "--output", bundle, "--revision", "2026-11-23.1")

    asked = subprocess.run(
        [opa, "eval", "--bundle", bundle, "--format", "raw", "data.regate.meta.revision"],
        capture_output=True,
        text=True,
    )

    assert (built["revision"], asked.stdout.strip()) == ("2026-11-23.1", "2026-11-23.1")


@pytest.fixture
def repository(policies: Path) -> Path:
    """The copy of the policies, committed to a git repository of its own."""
    who = [
        "-c",
        "user.name=Ann",
        "-c",
        "user.email=ann@example.com",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "init.defaultBranch=main",
    ]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Policies"]):
        subprocess.run(["git", *who, *arguments], cwd=policies, check=True)
    return policies


def test_the_revision_is_the_commit_and_says_when_the_directory_differs_from_it(
    repository: Path, tmp_path: Path
) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.strip()
    clean = build("--policy", repository, "--output", tmp_path / "clean.tar.gz")
    (repository / "data.json").write_text((repository / "data.json").read_text().replace("hr-only", "hr"))
    dirty = build("--policy", repository, "--output", tmp_path / "dirty.tar.gz")

    assert (clean["revision"], dirty["revision"]) == (commit, f"{commit}-dirty")


def test_broken_policies_build_nothing_and_leave_the_earlier_bundle(policies: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar.gz"
    build("--policy", policies, "--output", bundle)
    before = bundle.read_bytes()
    (policies / "chunk" / "chunk.rego").write_text("package regate.chunk\n\nallow if nothing_that_exists\n")

    result = CliRunner().invoke(main, ["policy", "build", "--policy", str(policies), "--output", str(bundle)])

    assert (result.exit_code, "nothing_that_exists" in result.output, bundle.read_bytes() == before) == (
        1,
        True,
        True,
    )


def test_a_key_that_is_none_builds_nothing(policies: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("not a key")

    result = CliRunner().invoke(
        main,
        [
            "policy",
            "build",
            "--policy",
            str(policies),
            "--output",
            str(tmp_path / "b.tar.gz"),
            "--signing-key",
            str(key),
        ],
    )

    assert (result.exit_code, (tmp_path / "b.tar.gz").exists()) == (1, False)


def test_an_output_without_a_place_is_wrong_usage(policies: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["policy", "build", "--policy", str(policies), "--output", str(tmp_path / "no" / "b.tar.gz")]
    )

    assert result.exit_code == 2
