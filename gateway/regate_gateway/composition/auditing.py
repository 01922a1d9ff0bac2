"""The audit log as it is configured, and the key that signs its checkpoints."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from regate_adapters.audit.checkpoints import Checkpointing
from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.audit.signing import SigningKey, read_signing_key
from regate_gateway.config.secret import own_secret, secret_from_environment, secret_from_file
from regate_gateway.config.settings import Settings
from regate_gateway.telemetry.receipts import note_record

_OWN_KEY: Final = "audit-signing.secret"


def open_audit(settings: Settings) -> AbstractAsyncContextManager[SegmentedAuditLog]:
    """Return the audit log, to be entered. Raises `ConfigurationError`, and so does entering it."""
    audit = settings.audit
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
