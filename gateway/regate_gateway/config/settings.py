"""Settings: everything an operator may set, with its type, default and meaning. Unknown keys are refused;
unsafe combinations do not start.

Not where they are read from (`loading.py`, the counterpart: file, environment, command line), and not what is
built from them (`composition/wiring.py`). Secrets are never settings: a setting names the environment
variable or the file that holds one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from regate_adapters.settings_types import Section
from regate_adapters.tracing.settings import Traces, has_tracing
from regate_adapters.vector.registry import is_embedded
from regate_gateway.config.audit_settings import Audit
from regate_gateway.config.auth_settings import Auth
from regate_gateway.config.egress_settings import Egress
from regate_gateway.config.files_settings import Files
from regate_gateway.config.guard_settings import GuardSettings
from regate_gateway.config.listen_settings import Listen
from regate_gateway.config.opa_settings import Opa
from regate_gateway.config.retrieval_settings import Embeddings, Ingesting, Reranking, RewriteModel, Vector
from regate_gateway.config.state_settings import Redis, State
from regate_gateway.config.tool_settings import Tools
from regate_gateway.config.upstream_settings import Upstream, require_plain_routes

DEFAULT_DATA_DIR: Final = Path("./data")


class Quota(Section):
    """How callers are counted. What they may spend, the policy says."""

    on_failure: Literal["deny", "local"] = Field(
        default="deny",
        description="While Redis does not answer: `deny` what is limited (503), or count here, under each "
        "limit divided by the number of gateways.",
    )


class Telemetry(Section):
    """What the process says about itself. Never prompts, document text, tokens or query strings."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity that is logged, to standard error."
    )
    access_log: bool = Field(default=True, description="Write one line per request.")
    traces: Traces | None = Field(
        default=None,
        description="Traces of requests, with the keys below. Absent: nothing is traced.",
    )

    @model_validator(mode="after")
    def _library_is_there(self) -> Self:
        if self.traces is not None and not has_tracing():
            raise ValueError("traces needs the OpenTelemetry SDK: install regate[otel]")
        return self


class Settings(BaseSettings):
    """All settings. Build it with `configuration.load_settings`, which names the setting at fault when
    something is wrong.
    """

    model_config = SettingsConfigDict(
        env_prefix="REGATE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data_dir: Path = Field(
        default=DEFAULT_DATA_DIR, description="Directory below which every other path lies unless it is set."
    )
    listen: Listen = Field(default_factory=Listen)
    upstreams: tuple[Upstream, ...] = Field(
        default=(), description="The backends; each entry has the keys below."
    )
    auth: Auth = Field(default_factory=Auth)
    opa: Opa = Field(default_factory=Opa)
    state: State
    vector: Vector
    files: Files
    embeddings: Embeddings = Field(default_factory=Embeddings)
    reranking: Reranking = Field(default_factory=Reranking)
    query_rewriting: RewriteModel | None = Field(
        default=None,
        description="A model for `rewrite_query`, with the keys below. Absent: a fixed rule.",
    )
    ingestion: Ingesting = Field(default_factory=Ingesting)
    redis: Redis = Field(default_factory=Redis)
    quota: Quota = Field(default_factory=Quota)
    guards: GuardSettings = Field(default_factory=GuardSettings)
    tools: Tools = Field(default_factory=Tools)
    egress: Egress = Field(default_factory=Egress)
    telemetry: Telemetry = Field(default_factory=Telemetry)
    audit: Audit

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing but the constructor's arguments: `loading.py` alone says which source
        overrides which.
        """
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _pathsbelow_data_dir(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        root = Path(str(values.get("data_dir", DEFAULT_DATA_DIR)))
        filled = dict(values)
        if not _names(filled.get("state"), "url_env"):
            _fill(filled, "state", {"url": f"sqlite:///{root / 'regate.db'}"})
        _fill(filled, "files", {"path": root / "files"})
        _fill(filled, "audit", {"path": root / "audit"})
        if isinstance(filled["audit"], dict):
            _fill(filled, "audit", {"checkpoints": Path(str(filled["audit"]["path"])) / "checkpoints.jsonl"})
        _fill(filled, "vector", {"stores": {"main": {}}})
        if isinstance(filled["vector"], dict) and isinstance(filled["vector"]["stores"], dict):
            stores = dict(filled["vector"]["stores"])
            for name in stores:
                _fill(stores, name, {})
                if is_embedded(stores[name]):
                    _fill(stores, name, {"path": root / "vector" / str(name)})
            filled["vector"] = {**filled["vector"], "stores": stores}
        return filled

    @model_validator(mode="after")
    def _safe_together(self) -> Self:
        require_plain_routes(self.upstreams)
        names = [upstream.name for upstream in self.upstreams]
        for place, model in (
            ("upstream", self.embeddings),
            *(("also: upstream", one) for one in self.embeddings.also),
        ):
            if model.upstream is not None and model.upstream not in names:
                raise ValueError(f"embeddings.{place} names {model.upstream!r}, which is not among upstreams")
        for name, ranker in self.reranking.models.items():
            if ranker.upstream not in names:
                raise ValueError(
                    f"reranking.models.{name}.upstream names {ranker.upstream!r}, which is not in upstreams"
                )
        for place, chosen in (
            ("query_rewriting", self.query_rewriting),
            ("ingestion.context", self.ingestion.context),
            ("tools.image_generation", self.tools.image_generation),
        ):
            if chosen is not None and chosen.upstream not in names:
                raise ValueError(f"{place}.upstream names {chosen.upstream!r}, which is not among upstreams")
        if not self.listen.is_loopback and self.auth.anonymous:
            raise ValueError("auth.anonymous is accepted on a loopback address only; listen.host is not one")
        takes_certificates = self.listen.tls is not None and self.listen.tls.client_ca is not None
        if any(entry.kind == "mtls" for entry in self.auth.entries) and not takes_certificates:
            raise ValueError("auth.providers: kind mtls needs listen.tls with client_ca")
        if not self.listen.is_loopback and self.is_development:
            raise ValueError(
                "auth.jwt or auth.providers must be set: without them only a loopback address may be bound, "
                "and listen.host is not one"
            )
        return self

    @property
    def is_development(self) -> bool:
        """Whether tokens are verified with a secret that this gateway made for itself."""
        return not self.auth.entries


def _names(section: Any, key: str) -> bool:
    """Return whether a section, as it was given, says something for a key."""
    return isinstance(section, dict) and section.get(key) is not None


def _fill(values: dict[str, Any], key: str, defaults: dict[str, Any]) -> None:
    """Put defaults below a key where nothing was said; what is not a mapping is left for validation to
    refuse.
    """
    given = values.get(key)
    if given is None:
        given = {}
    if isinstance(given, dict):
        values[key] = {**defaults, **given}
