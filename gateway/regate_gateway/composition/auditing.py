"""The audit log as it is configured, the key that signs its checkpoints, and its exports."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from regate_adapters.audit.checkpoints import Checkpointing
from regate_adapters.audit.export.cursors import Cursor, writer_of
from regate_adapters.audit.export.exporter import Destination, Exporter, ExportFailed
from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.audit.segments import worker_log
from regate_adapters.audit.signing import SigningKey, read_signing_key
from regate_gateway.config.audit_settings import Audit, Export
from regate_gateway.config.secret import (
    header_secret_from_environment,
    own_secret,
    secret_from_environment,
    secret_from_file,
)
from regate_gateway.config.settings import Settings
from regate_gateway.telemetry.receipts import note_record
from regate_orchestrator.errors import ConfigurationError, naming

_OWN_KEY: Final = "audit-signing.secret"


def open_audit(
    settings: Settings, worker: int | None = None
) -> AbstractAsyncContextManager[SegmentedAuditLog]:
    """Return the audit log, a worker's by its number, to be entered. Raises `ConfigurationError`, and so does
    entering it.
    """
    audit = audit_of(settings, worker)
    making = Checkpointing(
        key=signing_key(settings),
        copies=audit.checkpoints,
        every_s=audit.checkpoint_s,
        every_records=audit.checkpoint_records,
    )
    return SegmentedAuditLog.open(
        audit.path,
        on_failure=audit.on_failure,
        checkpoints=making,
        on_written=lambda position: note_record(position.seq, position.receipt),
    )


def audit_of(settings: Settings, worker: int | None) -> Audit:
    """Return the settings of the log that is written here: the configured one, or that of a worker, by its
    number.
    """
    audit = settings.audit
    if worker is None:
        return audit
    path, copies = worker_log(audit.path, worker), audit.checkpoints
    within = copies.parent == audit.path
    apart = copies.with_name(f"{copies.stem}-worker-{worker}{copies.suffix}")
    return audit.model_copy(update={"path": path, "checkpoints": path / copies.name if within else apart})


def own_signing_key(settings: Settings) -> Path | None:
    """Return where this gateway keeps a signing key of its own; None where one is configured."""
    given = settings.audit.signing_key_file is not None or settings.audit.signing_key_env is not None
    return None if given else settings.data_dir / _OWN_KEY


def signing_key(settings: Settings) -> SigningKey:
    """Return the key that signs checkpoints; one of our own is made at first use. Raises
    `ConfigurationError`.
    """
    audit = settings.audit
    if audit.signing_key_env is not None:
        setting = "audit.signing_key_env"
        secret = secret_from_environment(audit.signing_key_env, setting=setting)
    elif audit.signing_key_file is not None:
        setting = "audit.signing_key_file"
        secret = secret_from_file(audit.signing_key_file, setting=setting)
    else:
        setting = "data_dir"
        secret = own_secret(settings.data_dir / _OWN_KEY, setting=setting)
    return read_signing_key(secret.reveal(), setting=setting)


def exporters_of(
    settings: Settings, log: SegmentedAuditLog, worker: int | None = None
) -> tuple[Exporter, ...]:
    """Return what exports this log, one for each destination; each must be worked on. Raises
    `ConfigurationError`.
    """
    audit = audit_of(settings, worker)
    if not audit.export:
        return ()
    directory = audit.path
    try:
        writer = writer_of(directory, is_new=not log.last_written)
    except OSError as error:
        raise ConfigurationError(f"audit.path: {directory} cannot be used: {error.strerror}") from error
    return tuple(
        Exporter(
            export.name,
            directory,
            _destination(export, writer),
            Cursor(directory, export.name, writer),
            written=lambda: log.last_written,
        )
        for export in audit.export
    )


def check_export(export: Export) -> None:
    """Raise `ConfigurationError` for a destination that could not be used. Connects to nothing."""
    _destination(export, writer="")


async def examine_export(export: Export) -> str:
    """Return in words what is there at the destination. Raises `ConfigurationError`."""
    destination = _destination(export, writer="")
    try:
        return await destination.examine()
    except ExportFailed as error:
        raise ConfigurationError(error.why) from error
    finally:
        await destination.close()


def _destination(export: Export, writer: str) -> Destination:
    place = f"audit.export.{export.name}"
    if export.url_env is not None:
        from regate_adapters.audit.export.postgres import PostgresDestination

        setting = f"{place}.url_env"
        url = secret_from_environment(export.url_env, setting=setting).reveal()
        with naming(setting):
            return PostgresDestination(url, table=export.table, writer=writer)
    from regate_adapters.audit.export.otlp import OtlpDestination

    authorization = None
    if export.authorization_env is not None:
        setting = f"{place}.authorization_env"
        authorization = header_secret_from_environment(export.authorization_env, setting=setting).reveal()
    return OtlpDestination(str(export.url), writer=writer, authorization=authorization)
