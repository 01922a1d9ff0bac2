"""A policy directory as a bundle that OPA loads whole, with a revision that is a digest of its content.

A directory has no revision of its own, so everything that quotes one (decisions, filter plans, audit records)
would quote nothing. The bundle also carries `data.regate.meta`: the revision once more, so that a query can
return it together with its answer, which helper rules partial evaluation must leave alone, and where each
rule stands. Not the running of OPA (`opa/server/process.py`); the reader of `data.regate.meta` is
`opa/engine.py`, and what makes sure of the policies `vetting.py`.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from regate_adapters.opa.policies.listing import MANIFEST, SIGNATURES
from regate_adapters.opa.policies.source import BrokenPolicy, PolicySource
from regate_adapters.opa.policies.vetting import examine_packed, run_opa, vet, write_files
from regate_orchestrator.ports import GUARD_STEPS

_DOCUMENTS: Final = ("data.json", "data.yaml", "data.yml")
_COMPRESSION: Final = 6  # a bundle is mostly read here, once: to press it harder takes longer than it saves


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
    digest, within = source.digest, target.parent
    vetted = vet(opa, source, frozenset(required), frozenset(guarded), within=within)
    data = _merged_data(source.files)
    if gateway_token is not None:
        if not vetted.has_authz:
            raise BrokenPolicy(
                "the policies have no package system.authz, without which OPA would refuse every question"
            )
        _fill_in(data, source, "system", "gateway_token", gateway_token)
    named = revision or source.revision
    _fill_in(data, source, "regate", "meta", {**vetted.described, "revision": named})
    packed = _packed(source, data, revision=named)
    examine_packed(opa, f"{digest} {gateway_token is None}", packed, within=within)
    if signing_key is not None:
        packed |= _signatures(packed, opa=opa, key=signing_key, within=within)
    with tempfile.TemporaryDirectory(prefix="build-", dir=within) as folder:
        built = Path(folder) / "bundle.tar.gz"
        _write(built, packed)
        built.chmod(0o600)
        built.replace(target)


def _fill_in(data: dict[str, Any], source: PolicySource, package: str, name: str, value: object) -> None:
    """Put the value where the bundle alone may put one."""
    if any(file.startswith(f"{package}/{name}/") for file in source.files):
        raise BrokenPolicy(f"{package}/{name} is reserved: the bundle fills it in")
    _merge(data, {package: {name: value}})


def _packed(source: PolicySource, data: Mapping[str, Any], *, revision: str) -> dict[str, bytes]:
    """Return the files of the bundle: modules and schemas as they were written, all data in one document, and
    the manifest.

    OPA ignores the schemas; a gateway that is given the bundle needs those of the rows.

    Not by `opa build`, which writes modules anew from its formatter: OPA 1.22.2 drops parentheses there, and
    `input.a` followed by `(-1) == input.b` on the next line comes to mean `input.a - 1 == input.b`. What was
    checked and tested must be what runs.
    """
    manifest = json.loads(source.files.get(MANIFEST, b'{"rego_version": 1}'))
    kept = {
        name: content
        for name, content in source.files.items()
        if name.endswith(".rego") or (name.startswith("schemas/") and name.endswith(".json"))
    }
    return kept | {
        "data.json": json.dumps(data).encode(),
        MANIFEST: json.dumps(manifest | {"revision": revision}).encode(),
    }


def _signatures(packed: Mapping[str, bytes], *, opa: Path, key: Path, within: Path) -> dict[str, bytes]:
    """Return the file with the signatures of these files, as OPA makes it."""
    with tempfile.TemporaryDirectory(prefix="sign-", dir=within) as folder:
        write_files(Path(folder), packed)
        given = ["--signing-alg", "RS256", "--signing-key", str(key.resolve())]
        run_opa(opa, ["sign", *given, "--bundle", ".", "--output-file-path", "."], at=Path(folder))
        return {SIGNATURES: Path(folder, SIGNATURES).read_bytes()}


def _write(target: Path, packed: Mapping[str, bytes]) -> None:
    with tarfile.open(target, "w:gz", compresslevel=_COMPRESSION) as bundle:
        for name in sorted(packed, key=_by_folder):
            entry = tarfile.TarInfo(f"/{name}")  # as OPA's own bundles name their files
            entry.size = len(packed[name])
            bundle.addfile(entry, io.BytesIO(packed[name]))


def _merged_data(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return all `data.json` and `data.yaml` files as one document, each below its folder's path, as
    OPA places them.
    """
    merged: dict[str, Any] = {}
    documents = [name for name in files if name.rpartition("/")[2] in _DOCUMENTS]
    for name in sorted(documents, key=_by_folder):
        try:
            document = json.loads(files[name]) if name.endswith(".json") else yaml.safe_load(files[name])
        except (ValueError, yaml.YAMLError) as error:
            raise BrokenPolicy(f"{name} cannot be read: {error}") from error
        for folder in reversed(name.split("/")[:-1]):
            document = {folder: document}
        if not isinstance(document, dict):
            raise BrokenPolicy(f"{name} must hold an object")
        _merge(merged, document)
    return merged


def _by_folder(name: str) -> list[str]:
    return name.split("/")


def _merge(into: dict[str, Any], document: Mapping[str, Any]) -> None:
    for name, value in document.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:  # OPA's check has refused what two documents give
            into[name] = value
