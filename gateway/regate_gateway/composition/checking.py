"""What keeps a configuration from starting, as far as that can be known without starting or connecting to
anything.

`regate config check` says it, and `regate serve` begins with it. Not connections; those are
`cli/doctor.py`'s.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

from regate_adapters.vector.kind import EmbeddedSettings, EngineSettings
from regate_adapters.vector.registry import KINDS
from regate_gateway.auth.opening import check_provider
from regate_gateway.composition.auditing import check_export, signing_key
from regate_gateway.composition.opening import (
    check_policy_place,
    configured_engine,
    opa_binary,
    sealing_secret,
)
from regate_gateway.composition.outside.mcp import check_mcp
from regate_gateway.composition.outside.tracing import check_traces
from regate_gateway.composition.sharing import check_redis
from regate_gateway.config.secret import header_secret_from_environment, secret_from_environment
from regate_gateway.config.settings import Settings
from regate_gateway.config.state_settings import state_url
from regate_gateway.config.tls import ServerTls
from regate_orchestrator.errors import ConfigurationError, naming

Check: TypeAlias = Callable[[], object]


def require_startable(settings: Settings) -> None:
    """Raise `ConfigurationError` with every fault that there is, a line each."""
    if found := faults(settings):
        raise ConfigurationError("\n".join(found))


def faults(settings: Settings) -> list[str]:
    """Return every fault as a line that names the setting; none when the gateway would accept the
    configuration. Nothing is made.
    """
    found: list[str] = []
    for check in _checks(settings):
        try:
            check()
        except ConfigurationError as error:
            found += error.message.splitlines()
    return list(dict.fromkeys(found))


def _checks(settings: Settings) -> Iterator[Check]:
    for entry in settings.auth.entries:
        yield partial(check_provider, entry, place=settings.auth.place_of(entry))
    if (tls := settings.listen.tls) is not None:
        yield partial(ServerTls, tls)
    for setting, variable in _named_variables(settings):
        yield partial(secret_from_environment, variable, setting=setting)
    for setting, variable in _header_variables(settings):
        yield partial(header_secret_from_environment, variable, setting=setting)
    for setting, path in _directories(settings):
        yield partial(check_directory, path, setting=setting)
    if settings.state.sealing_key_env is not None:
        yield lambda: sealing_secret(settings)
    yield lambda: _check_egress(settings)
    yield lambda: _check_files(settings)
    yield lambda: check_mcp(settings.tools.mcp)
    if settings.audit.signing_key_file is not None or settings.audit.signing_key_env is not None:
        yield lambda: signing_key(settings)
    for export in settings.audit.export:
        yield partial(check_export, export)
    if settings.telemetry.traces is not None:
        yield partial(check_traces, settings.telemetry.traces)
    yield lambda: _check_database(settings)
    if settings.redis.is_used:
        yield lambda: check_redis(settings)
    yield lambda: _check_upstreams(settings)
    for name, store in settings.vector.stores.items():
        yield partial(_check_engine, name, store)
    yield lambda: _check_policy(settings)
    if settings.listen.workers > 1:
        yield lambda: _check_workers(settings)


def _header_variables(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the settings that name a variable which the start demands and headers hold, each with its
    variable.
    """
    named = {
        "opa.token_env": settings.opa.token_env,
        **{
            f"tools.{name}.api_key_env": getattr(getattr(settings.tools, name), "api_key_env", None)
            for name in settings.tools.sections
        },
        **{f"guards.providers.{one.name}.api_key_env": one.api_key_env for one in settings.guards.providers},
    }
    yield from ((setting, variable) for setting, variable in named.items() if variable is not None)


def _named_variables(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the settings that name a variable which the start demands, each with its variable."""
    files = settings.files
    named = {
        **{f"upstreams.{upstream.name}.api_key_env": upstream.api_key_env for upstream in settings.upstreams},
        **{
            f"files.{name}": getattr(files, name)
            for name in ("access_key_id_env", "secret_access_key_env", "session_token_env")
        },
        **{
            f"tools.mcp.servers.{label}.identity.client_secret_env": server.identity.client_secret_env
            for label, server in settings.tools.mcp.servers.items()
        },
    }
    yield from ((setting, variable) for setting, variable in named.items() if variable is not None)


def _directories(settings: Settings) -> Iterator[tuple[str, Path]]:
    yield "data_dir", settings.data_dir
    yield "files.path", settings.files.path
    yield "audit.path", settings.audit.path
    if settings.audit.checkpoints.parent != settings.audit.path:
        yield "audit.checkpoints", settings.audit.checkpoints.parent
    for name, store in settings.vector.stores.items():
        if isinstance(store, EmbeddedSettings):
            yield f"vector.stores.{name}.path", store.path


def check_directory(path: Path, *, setting: str) -> None:
    """Raise `ConfigurationError` unless the directory is there and can be written to, or can be made.
    Makes nothing that stays.
    """
    there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    try:
        Path(tempfile.mkdtemp(prefix=".regate-", dir=there)).rmdir()
    except OSError as error:
        what = "cannot be written to" if there == path.absolute() else f"cannot be made in {there}"
        raise ConfigurationError(f"{setting}: the directory {path} {what}: {error.strerror}") from error


def _check_egress(settings: Settings) -> None:
    if (path := settings.egress.ca_file) is None:
        return
    try:
        ssl.create_default_context().load_verify_locations(path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"egress.ca_file: {path} holds no certificates that can be read") from error


def _check_files(settings: Settings) -> None:
    if (path := settings.files.service_account_file) is None:
        return
    from regate_adapters.files.blobs.gcs_tokens import ServiceAccount

    ServiceAccount.read(path)


def _check_database(settings: Settings) -> None:
    from regate_adapters.state.database import check_url

    setting, url = state_url(settings.state)
    with naming(setting):
        place = check_url(url)
    if place.drivername.startswith("sqlite"):
        path = Path(place.database or "")
        if path.exists() and not path.is_file():
            raise ConfigurationError(f"{setting}: {path} is not a file")
        check_directory(path.parent, setting=setting)


def _check_upstreams(settings: Settings) -> None:
    from regate_adapters.backend.upstreams import check_configs
    from regate_gateway.composition.outside.upstreams import upstream_configs

    check_configs(upstream_configs(settings))


def _check_engine(name: str, engine: EngineSettings) -> None:
    KINDS[engine.kind].check(configured_engine(name, engine))


def _check_policy(settings: Settings) -> None:
    check_policy_place(settings)
    if settings.opa.mode == "managed":
        opa_binary(settings)


def _check_workers(settings: Settings) -> None:
    """Refuse what lies in one process, or in files of one process."""
    from regate_adapters.state.database import check_url

    found = []
    setting, url = state_url(settings.state)
    if check_url(url).drivername.startswith("sqlite"):
        found.append(f"{setting}: SQLite serves one process, so workers need PostgreSQL")
    found += [
        f"vector.stores.{name}.kind: {engine.kind} lies in one process; workers need a server"
        for name, engine in settings.vector.stores.items()
        if KINDS[engine.kind].of_one_process
    ]
    if settings.opa.shadow is not None:
        found.append("opa.shadow: a candidate is compared by one process only")
    if found:
        raise ConfigurationError(
            "\n".join(f"{line} (listen.workers is {settings.listen.workers})" for line in found)
        )
