"""A policy directory as a bundle that OPA loads whole, with a revision that is a digest of its content.

A directory has no revision of its own, so everything that quotes one (decisions, filter plans, audit records)
would quote nothing. The bundle also carries `data.regate.meta`: the revision once more, so that a query can
return it together with its answer, which helper rules partial evaluation must leave alone, and where each
rule stands. Not the running of OPA (`opa/server/process.py`); the reader of `data.regate.meta` is
`opa/engine.py`, and what makes sure of the policies `vetting.py`.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from regate_adapters.opa.policies.listing import MANIFEST
from regate_adapters.opa.policies.source import BrokenPolicy, PolicySource
from regate_adapters.opa.policies.vetting import Content, examine_packed, run_opa, vet
from regate_orchestrator.ports import GUARD_STEPS


def build_bundle(
    source: PolicySource,
    target: Path,
    *,
    opa: Path,
    gateway_token: str | None = None,
    revision: str | None = None,
    signing_key: Path | None = None,
    required: Collection[str] = (),
    guarded: Collection[str] = GUARD_STEPS,
) -> None:
    """Write the bundle of these policies to `target`, at once or not at all, after `opa check --strict` found
    nothing wrong.

    The revision is the content's own digest unless another is given. With a signing key (a private key in
    PEM, for RS256) the bundle carries a signature of every file in it, `data.regate.meta` included.

    The policies may not say what no filter can, nor ask for what the gateway does not do (`acceptance`). An
    operators' document that has a schema may not be missing or wrong, since what it restricts would then be
    free, nor a rule of `regate.custom` be one that nothing consults: a misspelt `deny` would deny nothing.
    `required` are the paths, below `data`, of rules that must be there: OPA answers for one that is not as it
    answers for one that denies. `guarded` are the steps at which the gateway has a guard: what is wanted of
    one at another step is asked for in vain. Whoever knows of no gateway takes it that there is one at each.

    A gateway token is put where `system.authz` reads it, so a bundle with a token must stay where only OPA
    can read it; policies without `system.authz` are then refused, as OPA would answer nothing. Raises
    `BrokenPolicy` with OPA's message.
    """
    named = revision or source.revision
    with tempfile.TemporaryDirectory(prefix="build-", dir=target.parent) as folder:
        staged = Path(folder) / "policy"
        for name, content in source.files.items():
            path = staged / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        vetted = vet(opa, Content(source.digest.encode(), staged), frozenset(required), frozenset(guarded))
        if gateway_token is not None:
            if not vetted.has_authz:
                raise BrokenPolicy(
                    "the policies have no package system.authz, without which OPA would refuse every question"
                )
            _write_data(staged / "system" / "gateway_token", gateway_token)
        _write_data(staged / "regate" / "meta", {**vetted.described, "revision": named})
        built = Path(folder) / "bundle.tar.gz"
        _pack(
            staged,
            built,
            opa=opa,
            identity=f"{source.digest} {gateway_token is None}".encode(),
            revision=named,
            signing_key=signing_key,
        )
        built.chmod(0o600)
        built.replace(target)


def _write_data(folder: Path, value: object) -> None:
    if folder.exists():
        raise BrokenPolicy(f"{folder.parent.name}/{folder.name} is reserved: the bundle fills it in")
    folder.mkdir(parents=True)
    (folder / "data.json").write_text(json.dumps(value), encoding="utf-8")


def _pack(
    staged: Path, target: Path, *, opa: Path, identity: bytes, revision: str, signing_key: Path | None
) -> None:
    """Write the bundle: modules and schemas as they were written, all data in one document, the manifest, and
    signatures of these.

    OPA ignores the schemas; a gateway that is given the bundle needs those of the rows.

    Not by `opa build`, which writes modules anew from its formatter: OPA 1.22.2 drops parentheses there, and
    `input.a` followed by `(-1) == input.b` on the next line comes to mean `input.a - 1 == input.b`. What was
    checked and tested must be what runs.
    """
    packed = staged.parent / "packed"
    for path in sorted([*staged.rglob("*.rego"), *(staged / "schemas").rglob("*.json")]):
        copy = packed / path.relative_to(staged)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (packed / "data.json").write_text(json.dumps(_merged_data(staged)), encoding="utf-8")
    manifest = (
        json.loads((staged / MANIFEST).read_bytes()) if (staged / MANIFEST).is_file() else {"rego_version": 1}
    )
    (packed / MANIFEST).write_text(json.dumps(manifest | {"revision": revision}), encoding="utf-8")
    examine_packed(opa, Content(identity, packed))
    if signing_key is not None:
        key = ["--signing-alg", "RS256", "--signing-key", str(signing_key.resolve())]
        run_opa(opa, ["sign", *key, "--bundle", ".", "--output-file-path", "."], at=packed)
    with tarfile.open(target, "w:gz") as bundle:
        for path in sorted(path for path in packed.rglob("*") if path.is_file()):
            entry = bundle.gettarinfo(path)
            entry.name = f"/{path.relative_to(packed).as_posix()}"  # as OPA's own bundles name their files
            with path.open("rb") as content:
                bundle.addfile(entry, content)


def _merged_data(staged: Path) -> dict[str, Any]:
    """Return all `data.json` and `data.yaml` files as one document, each below its folder's path, as
    OPA places them.
    """
    merged: dict[str, Any] = {}
    for path in sorted(
        path for name in ("data.json", "data.yaml", "data.yml") for path in staged.rglob(name)
    ):
        place = path.relative_to(staged)
        try:
            document = (
                json.loads(path.read_bytes()) if path.suffix == ".json" else yaml.safe_load(path.read_bytes())
            )
        except (ValueError, yaml.YAMLError) as error:
            raise BrokenPolicy(f"{place} cannot be read: {error}") from error
        for folder in reversed(place.parent.parts):
            document = {folder: document}
        if not isinstance(document, dict):
            raise BrokenPolicy(f"{place} must hold an object")
        _merge(merged, document)
    return merged


def _merge(into: dict[str, Any], document: Mapping[str, Any]) -> None:
    for name, value in document.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:  # OPA's check has refused what two documents give
            into[name] = value
