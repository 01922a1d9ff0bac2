"""Settings: everything an operator may set, with its type, default and meaning. Unknown keys are refused;
unsafe combinations do not start.

Not where they are read from (`loading.py`, the counterpart: file, environment, command line), and not what is
built from them (`composition/wiring.py`). Secrets are never settings: a setting names the environment
variable or the file that holds one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from regate_adapters.settings_types import EnvironmentName, Name, Section
from regate_adapters.tracing.settings import Traces, has_tracing
from regate_adapters.vector.kind import EngineSettings
from regate_adapters.vector.registry import KINDS, is_embedded, read_settings
from regate_gateway.config.audit_settings import Audit
from regate_gateway.config.auth_settings import Auth
from regate_gateway.config.egress_settings import Egress
from regate_gateway.config.files_settings import Files
from regate_gateway.config.guard_settings import GuardSettings
from regate_gateway.config.listen_settings import Listen
from regate_gateway.config.opa_settings import Opa
from regate_gateway.config.redis_settings import Redis
from regate_gateway.config.tool_settings import Tools
from regate_gateway.config.upstream_settings import Upstream, require_plain_routes

DEFAULT_DATA_DIR: Final = Path("./data")
Engine = Annotated[SerializeAsAny[EngineSettings], BeforeValidator(read_settings)]
"""The settings of one vector engine, of the class that its `kind` names."""


class State(Section):
    """Where responses, files and stores are recorded."""

    url: str | None = Field(
        default=None,
        pattern=r"^(sqlite(\+aiosqlite)?:///[^?#]+|postgresql(\+psycopg)?://[^#]+)$",
        description=(
            "The database: `sqlite:///path`, or `postgresql+psycopg://user@host/database` without a password."
        ),
        json_schema_extra={"default_text": "sqlite:///<data_dir>/regate.db"},
    )
    url_env: EnvironmentName | None = Field(
        default=None,
        description=(
            "Environment variable that holds the URL instead, for a PostgreSQL that asks for a password."
        ),
    )

    pool_size: int = Field(
        default=10,
        ge=1,
        description="Connections to PostgreSQL, at most; more calls than that wait. With SQLite it says "
        "nothing, nor do the next four.",
    )
    connect_timeout_s: float = Field(
        default=5,
        gt=0,
        description="Longest wait for a new connection, unless the URL says so (`connect_timeout`).",
    )
    statement_timeout_s: float | None = Field(
        default=None,
        gt=0,
        description="Longest time for one statement, after which PostgreSQL ends it; a call of several may "
        "take a quarter more in all.",
        json_schema_extra={"default_text": "4"},
    )
    idle_in_transaction_timeout_s: float = Field(
        default=5,
        gt=0,
        description="Longest time that a transaction may do nothing, after which PostgreSQL ends it.",
    )
    row_security: bool = Field(
        default=True,
        description="Have PostgreSQL keep tenants apart as well (row-level security). "
        "`false` switches nothing off that is on.",
    )

    sealing_key_env: EnvironmentName | None = Field(
        default=None,
        description="Environment variable with the secret, 32 bytes or more, under which what clients keep "
        "(`encrypted_content`) is sealed. "
        "Absent: one of this gateway's own, in `data_dir`; gateways that share a database must share it.",
    )

    @field_validator("url")
    @classmethod
    def _without_password(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("postgresql"):
            parts = urlsplit(value)
            if parts.password is not None or "password" in parts.query:
                raise ValueError(
                    "must not hold a password; put the whole URL into an environment variable and name "
                    "that in url_env"
                )
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url is None) == (self.url_env is None):
            raise ValueError("exactly one of url and url_env must be set")
        return self


class Searching(Section):
    """How vector stores are searched where a search does not say."""

    mode: Literal["vector", "keyword", "hybrid"] = Field(
        default="hybrid",
        description="By vectors, by words, or by both. An engine that cannot search so searches by vectors.",
    )
    embedding_weight: float | None = Field(
        default=None,
        ge=0,
        description="How much the similarity of vectors counts in a hybrid search.",
        json_schema_extra={"default_text": "0.2 with `embeddings.kind: local`, else 0.5"},
    )
    text_weight: float | None = Field(
        default=None,
        ge=0,
        description="How much the words count in it.",
        json_schema_extra={"default_text": "1 less `embedding_weight`"},
    )

    @model_validator(mode="after")
    def _weighs_something(self) -> Self:
        if self.embedding_weight == 0 and self.text_weight == 0:
            raise ValueError("embedding_weight and text_weight must not both be 0")
        if self.text_weight is None and (self.embedding_weight or 0) > 1:
            raise ValueError("embedding_weight is above 1, so text_weight must be set as well")
        if self.embedding_weight is None and self.text_weight is not None:
            raise ValueError("text_weight is set, so embedding_weight must be set as well")
        return self


class Vector(Section):
    """The vector engines and which of them new vector stores use. A store stays where it was made."""

    default: Name = Field(
        default="main",
        description="The engine of new vector stores, unless `regate.store.placement` names another.",
    )
    stores: dict[Name, Engine] = Field(
        description="The engines, by name.", json_schema_extra={"default_text": "one, `main`, of kind local"}
    )
    search: Searching = Field(default_factory=Searching)
    allow_shared_stores: bool = Field(
        default=True, description="Let a `store_admin` make stores that all tenants may add to and search."
    )

    @model_validator(mode="after")
    def _default_exists(self) -> Self:
        if self.default not in self.stores:
            raise ValueError(f"default names {self.default!r}, which is not among stores")
        for name, engine in self.stores.items():
            if engine.words is not None:
                self._require_words(name, engine.words)
        return self

    def _require_words(self, name: str, words: str) -> None:
        place, other = f"stores.{name}.words", self.stores.get(words)
        if other is None:
            raise ValueError(f"{place} names {words!r}, which is not among stores")
        if not KINDS[other.kind].by_words or other.words is not None:
            raise ValueError(f"{place} names {words!r}, whose kind {other.kind} cannot search by words")
        if KINDS[self.stores[name].kind].by_words:
            raise ValueError(f"{place} is set, but kind {self.stores[name].kind} searches by words itself")


class EmbeddingModel(Section):
    """A model that makes vectors."""

    kind: Literal["local", "upstream"] = Field(
        default="local",
        description=(
            "The small model that ships with Regate, to begin with; or one of an upstream, which finds more."
        ),
    )
    upstream: Name | None = Field(
        default=None, description="The upstream to ask; required with `kind: upstream`."
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        description="The upstream's embedding model; required with `kind: upstream`.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=64,
        description=(
            "Tokens that the upstream's model takes of one text; chunks are smaller then. Absent: not known."
        ),
    )

    @model_validator(mode="after")
    def _named_when_upstream(self) -> Self:
        if (self.kind == "upstream") != (self.upstream is not None and self.model is not None):
            raise ValueError("upstream and model must both be set with kind upstream, and only then")
        if self.kind == "local" and self.max_tokens is not None:
            raise ValueError("max_tokens belongs to kind upstream: the local model takes texts of any length")
        return self


class Embeddings(EmbeddingModel):
    """The model that makes the vectors of new stores, and those of earlier stores. A store is only
    ever used with its own.
    """

    also: tuple[EmbeddingModel, ...] = Field(
        default=(),
        description=(
            "Further models, for the stores that were made with them; each entry has the keys `kind`, "
            "`upstream`, `model` and `max_tokens`."
        ),
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        models = [(self.kind, self.model), *((one.kind, one.model) for one in self.also)]
        if len(set(models)) != len(models):
            raise ValueError("also names a model twice")
        return self


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
        images = self.tools.image_generation
        if images is not None and images.upstream not in names:
            raise ValueError(
                f"tools.image_generation.upstream names {images.upstream!r}, which is not among upstreams"
            )
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
