"""Opening: from settings to what lies outside, one function for each: the policy engine, the state's place,
vector engines, file storage.

Not what is made of them (`wiring.py`, the counterpart), and not whether what is there is in order
(`cli/doctor.py`, which opens the same).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from regate_adapters.opa.client import OpaAddress
from regate_adapters.opa.engine import OpaEngine, RevisionGate
from regate_adapters.vector.kind import Configured, EngineSettings
from regate_adapters.vector.registry import KINDS
from regate_adapters.vector.worded.store import WordedVectorStore
from regate_gateway.composition.seat import Seat
from regate_gateway.config.files_settings import Files
from regate_gateway.config.retrieval_settings import Vector
from regate_gateway.config.secret import (
    MIN_SECRET_BYTES,
    Secret,
    header_secret_from_environment,
    own_secret,
    secret_from_environment,
)
from regate_gateway.config.settings import Settings
from regate_gateway.workbench.check.entrypoints import required_rules
from regate_gateway.workbench.directory import shipped_policies
from regate_orchestrator.authz.points import ROWS
from regate_orchestrator.errors import ConfigurationError, StateUnavailable
from regate_orchestrator.filters.schema import RowSchema, load_schema
from regate_orchestrator.ports import BlobStore, VectorStore

if TYPE_CHECKING:
    from regate_adapters.files.blobs.gcs import GcsBlobStore
    from regate_adapters.files.blobs.s3 import S3BlobStore

_log = logging.getLogger("regate.gateway")
_ANSWER_SECONDS: Final = 1.0

Worker = Callable[[], Coroutine[Any, Any, object]]


@dataclass(frozen=True, slots=True)
class OpenedPolicy:
    """Where OPA answers and its policies lie, what is wrong with the newest of them, what keeps it
    running, and what knows which may serve.
    """

    address: OpaAddress
    directory: Path
    problem: Callable[[], str | None]
    workers: tuple[Worker, ...]
    tell: Callable[[Callable[[], None]], None]
    """Takes what is to be called whenever OPA takes other policies, or is gone."""
    check: Callable[[], Awaitable[str]]
    """Returns the revision that may serve, as it is found now; raises `PolicyUnavailable` when none may."""
    gate: RevisionGate | None = None


async def open_policy(stack: AsyncExitStack, settings: Settings, seat: Seat | None = None) -> OpenedPolicy:
    """Return the policy engine's place, opened on the stack: OPA of our own, that of a worker's supervisor,
    or the remote one. Raises `ConfigurationError`.
    """
    if seat is not None and seat.policy is not None:
        address, directory = seat.policy
        probe = await stack.enter_async_context(OpaEngine(address, schemas={}, deadline_s=_ANSWER_SECONDS))
        return OpenedPolicy(address, directory, lambda: seat.problem, (), seat.on_change, probe.revision)
    if settings.opa.mode == "remote":
        from regate_adapters.opa.policies.remote import RemotePolicies

        variable = settings.opa.token_env
        token = (
            None
            if variable is None
            else header_secret_from_environment(variable, setting="opa.token_env").reveal()
        )
        assert settings.opa.url is not None  # noqa: S101 — INVARIANT: settings demand it in remote mode
        address, wait_s = OpaAddress(settings.opa.url, token=token), settings.opa.timeout_ms / 1000
        remote = await stack.enter_async_context(
            RemotePolicies(
                address,
                schemas=row_schemas_in(shipped_policies()),
                guarded=settings.guards.steps,
                wait_s=wait_s,
            )
        )
        return OpenedPolicy(
            address,
            shipped_policies(),
            lambda: remote.problem,
            (remote.work,),
            partial(setattr, remote, "on_change"),
            remote.check,
            gate=remote,
        )
    from regate_adapters.opa.server.process import ManagedOpa

    policies = check_policy_place(settings)
    opa, key = opa_binary(settings), settings.opa.verification_key
    managed = await stack.enter_async_context(
        ManagedOpa(
            policies,
            opa=opa,
            required=required_rules(),
            guarded=settings.guards.steps,
            verification_key=key,
        )
    )
    return OpenedPolicy(
        managed.address,
        managed.directory,
        lambda: managed.problem,
        (managed.watch,),
        partial(setattr, managed, "on_change"),
        managed.check,
    )


def check_policy_place(settings: Settings) -> Path:
    """Return where the policies of a managed OPA are. Raises `ConfigurationError` when nothing there
    could be loaded as configured.
    """
    policies, key = settings.opa.bundle or shipped_policies(), settings.opa.verification_key
    for setting, path in (("opa.bundle", policies), ("opa.verification_key", key)):
        if path is not None and not path.exists():
            raise ConfigurationError(f"{setting}: there is no {path}")
    if key is not None and policies.is_dir():
        raise ConfigurationError(
            "opa.verification_key: a directory has no signature; name in opa.bundle what `regate "
            "policy build` wrote"
        )
    if key is None and policies.is_file():
        raise ConfigurationError(
            "opa.bundle: a bundle file is loaded by its signature only; set opa.verification_key, or "
            "name a directory"
        )
    return policies


def opa_binary(settings: Settings) -> Path:
    """Return the OPA to run. Raises `ConfigurationError` when the configured one is none, or there is
    none that is new enough.
    """
    from regate_adapters.opa.install import OLDEST, opa_version, require_opa

    binary = settings.opa.binary
    if binary is None:
        return require_opa()
    version = opa_version(binary)
    if version is None or version < OLDEST:
        found = "is no OPA that runs here" if version is None else f"is OPA {'.'.join(map(str, version))}"
        raise ConfigurationError(
            f"opa.binary: {binary} {found}; OPA {'.'.join(map(str, OLDEST))} or newer is needed"
        )
    return binary


def row_schemas_in(policies: Path) -> dict[str, RowSchema]:
    """Return the schemas of all kinds of rows that the policies in the directory are about. Raises
    `ConfigurationError`.
    """
    return {kind: load_schema(policies / "schemas" / f"{kind}.json") for kind in ROWS}


def sealing_secret(settings: Settings) -> Secret:
    """Return the secret under which what clients keep is sealed; one of our own is made at first use.
    Raises `ConfigurationError`.
    """
    if settings.state.sealing_key_env is None:
        return own_secret(settings.data_dir / "sealing.secret", setting="data_dir")
    secret = secret_from_environment(settings.state.sealing_key_env, setting="state.sealing_key_env")
    if len(secret.reveal().encode()) < MIN_SECRET_BYTES:
        raise ConfigurationError(f"state.sealing_key_env: the secret has fewer than {MIN_SECRET_BYTES} bytes")
    return secret


def starting(doing: str) -> None:
    """Log what the start waits for now."""
    _log.info("starting", extra={"detail": doing})


def configured_engine(name: str, engine: EngineSettings) -> Configured[EngineSettings]:
    """Return a vector engine's settings with the secrets that they name. Raises `ConfigurationError`."""
    place = f"vector.stores.{name}"
    KINDS[engine.kind].require_installed(place)
    secrets = {
        setting: secret_from_environment(variable, setting=f"{place}.{setting}").reveal()
        for setting, variable in engine
        if setting.endswith("_env") and variable is not None
    }
    return Configured(engine, place, secrets)


async def open_vector_engines(
    stack: AsyncExitStack, vector: Vector, schema: RowSchema
) -> dict[str, VectorStore]:
    """Return the vector engines by name, opened on the stack. Raises `ConfigurationError` when one cannot be
    used.
    """
    opened: dict[str, VectorStore] = {}
    for name, engine in vector.stores.items():
        opening = KINDS[engine.kind].open(configured_engine(name, engine), schema)
        opened[name] = await stack.enter_async_context(opening)
    return {
        name: opened[name] if engine.words is None else WordedVectorStore(opened[name], opened[engine.words])
        for name, engine in vector.stores.items()
    }


async def open_blobs(stack: AsyncExitStack, files: Files) -> BlobStore:
    """Return the storage of uploaded bytes, opened on the stack. Raises `ConfigurationError` when it
    cannot be used.
    """
    if files.kind == "disk":
        from regate_adapters.files.blobs.disk import DiskBlobStore

        return DiskBlobStore(files.path)
    opening: GcsBlobStore | S3BlobStore = _gcs(files) if files.kind == "gcs" else _s3(files)
    store: BlobStore = await stack.enter_async_context(opening)
    try:
        await store.check()
    except StateUnavailable as error:
        raise ConfigurationError(
            f"files: the bucket {files.bucket} cannot be used ({error.detail})"
        ) from error
    return store


def _s3(files: Files) -> S3BlobStore:
    try:
        from regate_adapters.files.blobs.s3 import S3BlobStore, S3Credentials, S3Place
    except ModuleNotFoundError as error:
        raise ConfigurationError("files.kind: S3 needs its client: install regate[s3]") from error
    credentials = None
    if files.access_key_id_env is not None and files.secret_access_key_env is not None:
        token = files.session_token_env
        credentials = S3Credentials(
            secret_from_environment(files.access_key_id_env, setting="files.access_key_id_env").reveal(),
            secret_from_environment(
                files.secret_access_key_env, setting="files.secret_access_key_env"
            ).reveal(),
            None
            if token is None
            else secret_from_environment(token, setting="files.session_token_env").reveal(),
        )
    assert files.bucket is not None  # noqa: S101 — INVARIANT: settings demand it with kind s3
    place = S3Place(files.bucket, files.region or "us-east-1", files.endpoint_url, files.prefix or "")
    return S3BlobStore(place, credentials, scratch=files.path)


def _gcs(files: Files) -> GcsBlobStore:
    from regate_adapters.files.blobs.gcs import GOOGLE, GcsBlobStore, GcsPlace
    from regate_adapters.files.blobs.gcs_tokens import Machine, ServiceAccount

    source: ServiceAccount | Machine | None = Machine()
    if files.anonymous:
        source = None
    elif files.service_account_file is not None:
        source = ServiceAccount.read(files.service_account_file)
    assert files.bucket is not None  # noqa: S101 — INVARIANT: settings demand it with kind gcs
    place = GcsPlace(files.bucket, files.endpoint_url or GOOGLE, files.prefix or "")
    return GcsBlobStore(place, source, scratch=files.path)
