"""Settings: where they come from, what is refused and by which name, and that the documentation
mentions every one.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from regate_adapters.state.dialects import ServerOptions
from regate_gateway.config.loading import load_settings, reference, reference_table, show
from regate_gateway.config.settings import Settings
from regate_gateway.config.state_settings import server_options
from regate_gateway.config.upstream_settings import PROFILES, Upstream
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities

TRAITS = [trait.name for trait in fields(UpstreamCapabilities)]
ROOT = Path(__file__).parents[2]
JWT = "auth: {jwt: {issuer: i, audience: a, algorithms: [RS256], jwks_url: 'https://idp.example/jwks'}}\n"
HS = "{name: one, kind: jwt, issuer: i, audience: a, algorithms: [HS256], secret_env: S}"
CLUSTER = "{name: one, kind: kubernetes, audience: a, tenant: t}"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in __import__("os").environ if name.startswith("REGATE_")]:
        monkeypatch.delenv(name)


def load(text: str) -> Settings:
    path = Path("given.yaml")
    path.write_text(text, encoding="utf-8")
    return load_settings(path)


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load(text)
    return refused.value.message


def test_nothing_configured_is_development_mode_on_loopback_with_all_paths_below_data_dir() -> None:
    settings = load_settings()
    paths = [settings.files.path, settings.audit.path, settings.vector.stores["main"].path]
    found = (
        settings.is_development,
        settings.listen.host,
        settings.listen.port,
        settings.state.url,
        [str(path) for path in paths],
    )
    assert found == (
        True,
        "127.0.0.1",
        8080,
        "sqlite:///data/regate.db",
        ["data/files", "data/audit", "data/vector/main"],
    )


def test_data_dir_moves_every_path_that_is_not_set() -> None:
    settings = load(
        "data_dir: /var/lib/regate\nfiles: {path: /mnt/files}\nvector: {default: b, stores: {b: "
        "{on_inexpressible: gate}}}\n"
    )
    found = (
        str(settings.files.path),
        str(settings.audit.path),
        str(settings.vector.stores["b"].path),
        settings.state.url,
    )
    assert found == (
        "/mnt/files",
        "/var/lib/regate/audit",
        "/var/lib/regate/vector/b",
        "sqlite:////var/lib/regate/regate.db",
    )


def test_databases_are_named_by_the_variables_that_hold_their_urls() -> None:
    settings = load(
        "state: {url_env: STATE_URL}\n"
        "vector: {stores: {main: {kind: pgvector, url_env: VECTOR_URL}, other: {kind: chroma_server, "
        "url: 'http://chroma:8000'}}}\n"
    )
    main, other = settings.vector.stores["main"], settings.vector.stores["other"]
    found = (settings.state.url, settings.state.url_env, main.url_env, other.url)
    assert found == (None, "STATE_URL", "VECTOR_URL", "http://chroma:8000")


def test_file_in_the_working_directory_is_read() -> None:
    Path("regate.yaml").write_text("listen: {port: 1234}\n", encoding="utf-8")
    assert load_settings().listen.port == 1234


def test_environment_overrides_the_file_and_the_command_line_overrides_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REGATE_LISTEN__PORT", "2")
    monkeypatch.setenv("REGATE_TOOLS__MAX_ROUNDS", "3")
    Path("regate.yaml").write_text(
        "listen: {port: 1, max_connections: 7}\ntools: {max_rounds: 1}\n", encoding="utf-8"
    )
    settings = load_settings(overrides={"tools": {"max_rounds": 4}})
    assert (settings.listen.port, settings.listen.max_connections, settings.tools.max_rounds) == (2, 7, 4)


def test_lists_in_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "REGATE_UPSTREAMS", '[{"name": "local", "base_url": "http://127.0.0.1:1/v1/", "models": ["m"]}]'
    )
    (upstream,) = load_settings().upstreams
    assert (upstream.base_url, upstream.models) == ("http://127.0.0.1:1/v1", ("m",))


def test_model_may_be_repeated_where_it_is_said_who_serves_it() -> None:
    settings = load(
        "upstreams:\n"
        "  - {name: a, base_url: 'http://h', models: [m], aliases: {n: x}}\n"
        "  - {name: b, base_url: 'http://i', models: [m, n], fallback_for: [a]}\n"
        "  - {name: c, base_url: 'http://j', models: [m], by_policy: true}\n"
    )
    assert [upstream.named_models for upstream in settings.upstreams] == [("m", "n"), ("m", "n"), ("m",)]


REFUSED: dict[str, tuple[str, str]] = {
    "unknown section": ("lisen: {}", "lisen: there is no such setting; did you mean 'listen'?"),
    "unknown key": ("listen: {prot: 1}", "listen.prot: there is no such setting; did you mean 'port'?"),
    "unknown key in a list": (
        "upstreams: [{name: a, base_url: 'http://h', modles: []}]",
        "upstreams.0.modles: there is no such setting; did you mean 'models'?",
    ),
    "unknown key in a store": (
        "vector: {stores: {main: {knd: chroma}}}",
        "vector.stores.main.knd: there is no such setting; did you mean 'kind'?",
    ),
    "quota where Redis is": ("quota: {url: x}", "quota.url: there is no such setting"),
    "password of Redis": (
        "redis: {url: 'redis://u:secret@h:6379/0'}",
        "redis: url must not hold a password; put the whole URL into an environment variable",
    ),
    "two places of Redis": (
        "redis: {url: 'redis://h:6379/0', url_env: R}",
        "redis: only one of url and url_env may be set",
    ),
    "address that is none of Redis": ("redis: {url: 'http://h:6379'}", "redis.url: "),
    "a key without a bundle": (
        "opa: {verification_key: k.pem}",
        "opa: verification_key belongs to a bundle of mode managed",
    ),
    "a key for a remote OPA": (
        "opa: {mode: remote, url: 'http://opa:8181', verification_key: k.pem}",
        "opa: verification_key belongs to a bundle of mode managed",
    ),
    "key written twice": ("listen:\n  port: 1\n  port: 2\n", "port: written twice (line 2 and below)"),
    "not YAML": ("listen: [", "given.yaml, line 1: not valid YAML"),
    "a list": ("- a", "given.yaml: must hold settings by name, not a list"),
    "a section that is text": ("listen: x", "listen: Input should be"),
    "wrong type": ("listen: {port: http}", "listen.port: Input should be a valid integer"),
    "out of range": ("listen: {port: 70000}", "listen.port: Input should be less than or equal to 65535"),
    "missing": ("upstreams: [{name: a}]", "upstreams.0.base_url: must be set"),
    "open to the network without authentication": (
        "listen: {host: 0.0.0.0}",
        "auth.jwt or auth.providers must be set",
    ),
    "every origin": ("listen: {cors_origins: ['*']}", "'*' is not an origin"),
    "origin with a path": ("listen: {cors_origins: ['https://a.example/']}", "is not an origin"),
    "origin with a user": ("listen: {cors_origins: ['https://u@a.example']}", "is not an origin"),
    "origin no browser sends": ("listen: {cors_origins: ['https://A.example']}", "in lower case"),
    "anonymous on the network": (
        "listen: {host: '::'}\nauth: {anonymous: true}",
        "auth.anonymous is accepted on a loopback address only",
    ),
    "anonymous on the network beside tokens": (
        "listen: {host: 10.0.0.1}\n" + JWT.replace("{jwt", "{anonymous: true, jwt"),
        "auth.anonymous is accepted",
    ),
    "no issuer": (JWT.replace("issuer: i, ", ""), "auth.jwt.issuer: must be set"),
    "empty issuer": (
        JWT.replace("issuer: i", "issuer: ''"),
        "auth.jwt.issuer: String should have at least 1 character",
    ),
    "no audience": (JWT.replace("audience: a, ", ""), "auth.jwt.audience: must be set"),
    "no algorithms": (JWT.replace("[RS256]", "[]"), "auth.jwt.algorithms"),
    "algorithm none": (JWT.replace("RS256", "none"), "auth.jwt.algorithms.0: Input should be"),
    "HS with a JWKS": (JWT.replace("RS256", "HS256"), "auth.jwt: jwks_url does not fit the algorithms"),
    "HS beside RS": (JWT.replace("RS256", "RS256, HS256"), "auth.jwt: algorithms must not mix"),
    "RS with a secret": (
        JWT.replace("jwks_url: 'https://idp.example/jwks'", "secret_env: S"),
        "auth.jwt: secret_env does not fit",
    ),
    "no key source": (JWT.replace(", jwks_url: 'https://idp.example/jwks'", ""), "auth.jwt: exactly one of"),
    "two key sources": (JWT.replace("jwks_url", "jwks_file: f, jwks_url"), "auth.jwt: exactly one of"),
    "a provider beside the short form": (
        JWT.replace("auth: {", f"auth: {{providers: [{HS}], "),
        "auth: jwt is short for one provider",
    ),
    "providers of one name": (
        f"auth: {{providers: [{HS}, {HS}]}}",
        "auth: providers: two have the same name",
    ),
    "providers of one issuer": (
        f"auth: {{providers: [{HS}, {HS.replace('name: one', 'name: two')}]}}",
        "auth: providers: two have the same issuer",
    ),
    "two providers of API keys": (
        "auth: {providers: [{name: a, kind: api_key}, {name: b, kind: api_key}]}",
        "auth: providers: two are of kind api_key",
    ),
    "two clusters that no token tells apart": (
        f"auth: {{providers: [{CLUSTER}, {CLUSTER.replace('one', 'two')}]}}",
        "auth: providers: two of kind kubernetes have no issuer",
    ),
    "a cluster of no tenant": (
        f"auth: {{providers: [{CLUSTER.replace(', tenant: t', '')}]}}",
        "auth.providers.0: exactly one of tenant and tenant_label",
    ),
    "a cluster that is remembered too long": (
        f"auth: {{providers: [{CLUSTER.replace('}', ', cache_s: 61}')}]}}",
        "auth.providers.0.cache_s: Input should be less than or equal to 60",
    ),
    "a provider's key that there is not": (
        "auth: {providers: [{name: a, kind: kubernetes, audiense: r}]}",
        "auth.providers.0.audiense: there is no such setting; did you mean 'audience'?",
    ),
    "certificates that nobody verifies": (
        "auth: {providers: [{name: a, kind: mtls, tenant: t}]}",
        "auth.providers: kind mtls needs listen.tls with client_ca",
    ),
    "certificates of no tenant": (
        "auth: {providers: [{name: a, kind: mtls}]}",
        "auth.providers.0: exactly one of tenant and tenant_from",
    ),
    "a provider of no kind": (
        "auth: {providers: [{name: a, kind: saml}]}",
        "auth.providers.0: Input tag 'saml' found using 'kind' does not match",
    ),
    "upstream of another scheme": (
        "upstreams: [{name: a, base_url: 'file:///etc'}]",
        "upstreams.0.base_url: must be an http or https address",
    ),
    "upstream with a password": (
        "upstreams: [{name: a, base_url: 'http://u:secret@h/v1'}]",
        "upstreams.0.base_url: must not hold a user name or password",
    ),
    "upstream named twice": (
        "upstreams: [{name: a, base_url: 'http://h'}, {name: a, base_url: 'http://i'}]",
        "upstreams: the name 'a' is used twice",
    ),
    "model served twice": (
        (
            "upstreams: [{name: a, base_url: 'http://h', models: [m]}, {name: b, base_url: 'http://i', "
            "models: [m]}]"
        ),
        "upstreams: the model 'm' is used twice",
    ),
    "alias that is another upstream's model": (
        (
            "upstreams: [{name: a, base_url: 'http://h', models: [m]}, {name: b, base_url: 'http://i', "
            "aliases: {m: x}}]"
        ),
        "upstreams: the model 'm' is used twice, by 'a' and 'b'",
    ),
    "alias that is a model of its own": (
        "upstreams: [{name: a, base_url: 'http://h', models: [m], aliases: {m: x}}]",
        "upstreams.0: the model 'm' is named twice among models and aliases",
    ),
    "alias with a blank": (
        "upstreams: [{name: a, base_url: 'http://h', aliases: {'a b': x}}]",
        "upstreams.0.aliases.a b",
    ),
    "fallback for an upstream after it": (
        "upstreams: [{name: a, base_url: 'http://h', fallback_for: [b]}, {name: b, base_url: 'http://i'}]",
        "upstreams: 'a' is fallback_for 'b', which is no upstream before it",
    ),
    "fallback for itself": (
        "upstreams: [{name: a, base_url: 'http://h', fallback_for: [a]}]",
        "upstreams: 'a' is fallback_for 'a', which is no upstream before it",
    ),
    "fallback for what only policy may choose": (
        (
            "upstreams: [{name: a, base_url: 'http://h', by_policy: true}, {name: b, base_url: 'http://i', "
            "fallback_for: [a]}]"
        ),
        (
            "upstreams: 'b' is fallback_for 'a', which is no upstream before it that every request may be "
            "sent to"
        ),
    ),
    "fallback that cannot take the same": (
        (
            "upstreams: [{name: a, base_url: 'http://h', service_tiers: true}, {name: b, base_url: "
            "'http://i', fallback_for: [a]}]"
        ),
        "upstreams: 'b' is fallback_for 'a' with another service_tiers",
    ),
    "fallback that may not fetch the same": (
        (
            "upstreams: [{name: a, base_url: 'http://h', image_urls: true}, {name: b, base_url: "
            "'http://i', fallback_for: [a]}]"
        ),
        "upstreams: 'b' is fallback_for 'a' with another image_urls",
    ),
    "a network with an address of a host": (
        "egress: {allow_private: [10.1.2.3/8]}",
        "egress.allow_private: ",
    ),
    "a network that is none": ("egress: {allow_private: [internal]}", "egress.allow_private: "),
    "a port that is none": ("egress: {ports: [0]}", "egress.ports: ports are numbers from 1 to 65535"),
    "kind of upstream that there is not": (
        "upstreams: [{name: a, base_url: 'http://h', kind: vlm}]",
        "upstreams.0.kind: Input should be",
    ),
    "kind of upstream that is no name": (
        "upstreams: [{name: a, base_url: 'http://h', kind: [vllm]}]",
        "upstreams.0.kind: Input should be",
    ),
    "fallback that only policy may choose": (
        (
            "upstreams: [{name: a, base_url: 'http://h'}, {name: b, base_url: 'http://i', by_policy: true, "
            "fallback_for: [a]}]"
        ),
        "upstreams.1: by_policy and fallback_for exclude each other",
    ),
    "remote OPA without an address": ("opa: {mode: remote}", "opa: url must be set with mode remote"),
    "address of a managed OPA": (
        "opa: {url: 'http://h'}",
        "opa: url must be set with mode remote, and only then",
    ),
    "policies for a remote OPA": (
        "opa: {mode: remote, url: 'http://h', bundle: p}",
        "opa: bundle and binary belong to mode managed",
    ),
    "default store that is not there": ("vector: {default: other}", "vector: default names 'other'"),
    "embeddings without a model": (
        "embeddings: {kind: upstream}",
        "embeddings: upstream and model must both be set",
    ),
    "limit of the local embedding model": (
        "embeddings: {max_tokens: 512}",
        "embeddings: max_tokens belongs to kind upstream",
    ),
    "embeddings of an unknown upstream": (
        "embeddings: {kind: upstream, upstream: x, model: m}",
        "embeddings.upstream names 'x'",
    ),
    "further embeddings without a model": (
        "embeddings: {also: [{kind: upstream}]}",
        "embeddings.also.0: upstream and model must both be set",
    ),
    "further embeddings of an unknown upstream": (
        "embeddings: {also: [{kind: upstream, upstream: x, model: m}]}",
        "embeddings.also: upstream names 'x'",
    ),
    "embeddings named twice": ("embeddings: {also: [{kind: local}]}", "embeddings: also names a model twice"),
    "another database": ("state: {url: 'mysql://h/d'}", "state.url: String should match pattern"),
    "database with a password": (
        "state: {url: 'postgresql://u:secret@h/d'}",
        "state.url: must not hold a password",
    ),
    "database with a password behind": (
        "state: {url: 'postgresql://h/d?password=secret'}",
        "state.url: must not hold a password",
    ),
    "two databases": (
        "state: {url: 'postgresql://h/d', url_env: DATABASE_URL}",
        "state: exactly one of url and url_env",
    ),
    "pgvector without a database": (
        "vector: {stores: {main: {kind: pgvector}}}",
        "vector.stores.main: url_env must be set with kind pgvector",
    ),
    "pgvector in a directory": (
        "vector: {stores: {main: {kind: pgvector, url_env: V, path: p}}}",
        "vector.stores.main: path does not belong to kind pgvector",
    ),
    "Chroma server without an address": (
        "vector: {stores: {main: {kind: chroma_server}}}",
        "vector.stores.main: url must be set with kind chroma_server",
    ),
    "a guard at no step": (
        "guards: {providers: [{name: g, kind: detector, steps: []}]}",
        "guards.providers.0.steps",
    ),
    "a guard at a step that there is not": (
        "guards: {providers: [{name: g, kind: detector, steps: [thought]}]}",
        "guards.providers.0.steps.0",
    ),
    "a detector elsewhere": (
        "guards: {providers: [{name: g, kind: detector, steps: [input], base_url: 'http://h'}]}",
        "it runs here",
    ),
    "a guard model without a place": (
        "guards: {providers: [{name: g, kind: classifier, steps: [input], model: m}]}",
        "base_url and model must be set with kind classifier",
    ),
    "a guard's address with a password": (
        "guards: {providers: [{name: g, kind: moderation, steps: [input], model: m, base_url: 'http://u:p@h'}]}",
        "use api_key_env",
    ),
    "two guards of one name": (
        "guards: {providers: [&g {name: g, kind: detector, steps: [input]}, *g]}",
        "two guards have the same name",
    ),
    "the local engine with an address": (
        "vector: {stores: {main: {url: 'http://h'}}}",
        "vector.stores.main: url does not belong to kind local",
    ),
    "words in an engine that is not there": (
        "vector: {stores: {main: {kind: chroma, words: other}}}",
        "vector: stores.main.words names 'other', which is not among stores",
    ),
    "words in an engine that has no search by words": (
        "vector: {stores: {main: {kind: chroma, words: b}, b: {kind: chroma}}}",
        "vector: stores.main.words names 'b', whose kind chroma cannot search by words",
    ),
    "words of an engine that searches by words": (
        "vector: {stores: {main: {words: b}, b: {kind: memory}}}",
        "vector: stores.main.words is set, but kind local searches by words itself",
    ),
    "a reranker of no upstream": (
        "reranking: {models: {fine: {upstream: nowhere, model: m}}}",
        "reranking.models.fine.upstream names 'nowhere', which is not in upstreams",
    ),
    "a model for queries of no upstream": (
        "query_rewriting: {upstream: nowhere, model: m}",
        "query_rewriting.upstream names 'nowhere', which is not among upstreams",
    ),
    "a default that is no reranker": (
        "reranking: {default: fine}",
        "reranking: default names 'fine', which is not among models",
    ),
    "a reranker of a name with a meaning": (
        "reranking: {models: {none: {upstream: a, model: m}}}",
        "reranking: models: 'none' has a meaning of its own; use another name",
    ),
    "weights of nothing": (
        "vector: {search: {embedding_weight: 0, text_weight: 0}}",
        "vector.search: embedding_weight and text_weight must not both be 0",
    ),
    "half of the weights": (
        "vector: {search: {text_weight: 0.5}}",
        "vector.search: text_weight is set, so embedding_weight must be set as well",
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_configuration_is_refused_and_the_setting_named(text: str, message: str) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize("kind", sorted(PROFILES))
def test_kind_of_an_upstream_says_what_it_takes(kind: str) -> None:
    (upstream,) = load(f"upstreams: [{{name: a, base_url: 'http://h', kind: {kind}}}]").upstreams
    expected = {**{name: getattr(UpstreamCapabilities(), name) for name in TRAITS}, **PROFILES[kind]}
    assert {name: getattr(upstream.capabilities, name) for name in TRAITS} == {
        **expected,
        "extra_fields": frozenset(expected["extra_fields"]),
    }


@pytest.mark.parametrize("kind", sorted(PROFILES))
@pytest.mark.parametrize(
    ("setting", "value", "trait"),
    [
        ("output_limit", "max_tokens", "max_tokens"),
        ("system_messages", "leading", "leading"),
        ("stream_usage", "true", True),
        ("seed_field", "seed", "seed"),
        ("reasoning_field", "none", "none"),
        ("image_urls", "false", False),
        ("context_window", "4096", 4096),
        ("service_tiers", "false", False),
        ("extra_fields", "[mine]", frozenset({"mine"})),
    ],
)
def test_setting_of_an_upstream_overrides_its_kind(
    kind: str, setting: str, value: str, trait: object
) -> None:
    (upstream,) = load(
        f"upstreams: [{{name: a, base_url: 'http://h', {setting}: {value}, kind: {kind}}}]"
    ).upstreams
    assert getattr(upstream.capabilities, setting) == trait


def test_every_trait_is_a_setting_of_its_own() -> None:
    assert set(TRAITS) <= set(Upstream.model_fields)


def test_table_of_kinds_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "upstreams.md").read_text(encoding="utf-8")
    table = text.partition("## Kinds of upstreams")[2].partition("\n## ")[0]
    missing = [
        (kind, value)
        for kind, profile in PROFILES.items()
        for name, value in profile.items()
        for said in (value if isinstance(value, tuple) else (value,))
        if name not in ("service_tiers", "stream_usage", "seed_field")
        and f"`{str(said).lower() if isinstance(said, bool) else said}`"
        not in table.partition(f"| `{kind}` |")[2].partition("\n")[0]
    ]
    assert missing == []


def test_table_of_refusals_is_not_empty() -> None:
    assert len(REFUSED) == 96


def test_refusal_does_not_repeat_the_value() -> None:
    assert "secret" not in refusal(
        "upstreams: [{name: a, base_url: 'http://u:secret@h/v1', api_key_env: 'secret value'}]"
    )


def test_all_faults_are_told_at_once() -> None:
    assert len(refusal("lisen: {}\nlisten: {prot: 1, port: x}\n").splitlines()) == 3


def test_file_that_is_named_must_exist() -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.yaml cannot be read"):
        load_settings(Path("absent.yaml"))


@pytest.mark.parametrize("variable", ["REGATE_LISTN__PORT", "REGATE_LISTEN__PROT", "REGATE_UPSTREAM"])
def test_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ConfigurationError, match="there is no"):
        load_settings()


def test_variable_that_is_not_json_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGATE_UPSTREAMS", "http://127.0.0.1")
    with pytest.raises(ConfigurationError, match="REGATE_UPSTREAMS"):
        load_settings()


def test_variables_of_kubernetes_and_of_named_secrets_are_not_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (
        "REGATE_SERVICE_HOST",
        "REGATE_PORT",
        "REGATE_PORT_8080_TCP_ADDR",
        "REGATE_CONFIG",
        "REGATE_BACKEND_KEY",
    ):
        monkeypatch.setenv(name, "tcp://10.0.0.1:8080")
    settings = load("upstreams: [{name: a, base_url: 'http://h', api_key_env: REGATE_BACKEND_KEY}]\n")
    assert settings.upstreams[0].api_key_env == "REGATE_BACKEND_KEY"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_addresses_need_no_authentication(host: str) -> None:
    assert load(f"listen: {{host: '{host}'}}").listen.is_loopback


def test_network_address_is_accepted_with_tokens() -> None:
    assert load("listen: {host: 0.0.0.0}\n" + JWT).listen.host == "0.0.0.0"


def test_shown_settings_load_again_as_the_same() -> None:
    settings = load("listen: {port: 9}\nupstreams: [{name: a, base_url: 'http://h/v1'}]\n" + JWT)
    assert load_settings(overrides=show(settings)) == settings


def test_every_setting_says_what_it_means() -> None:
    entries = reference()
    assert (
        len(entries) > 50,
        [entry.path for entry in entries if not entry.meaning.endswith((".", ")"))],
    ) == (True, [])


def test_documentation_holds_the_reference_as_it_is() -> None:
    assert reference_table() in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


S3 = "files: {kind: s3, bucket: regate-files"
GCS = "files: {kind: gcs, bucket: regate_files"


def test_files_in_s3_name_the_variables_that_hold_their_keys() -> None:
    files = load(
        S3 + ", endpoint_url: 'https://s3.example:9000/', region: eu-central-1, prefix: a/b-1/, "
        "access_key_id_env: K, secret_access_key_env: S}"
    ).files
    found = (
        files.bucket,
        files.endpoint_url,
        files.prefix,
        str(files.path),
        files.access_key_id_env,
        files.secret_access_key_env,
    )
    assert found == ("regate-files", "https://s3.example:9000", "a/b-1/", "data/files", "K", "S")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("files: {kind: s3}", "bucket must be set"),
        ("files: {bucket: some-bucket}", "bucket does not belong to kind disk"),
        ("files: {region: eu-1}", "region does not belong to kind disk"),
        ("files: {kind: s3, bucket: Some/Bucket}", "files.bucket"),
        (S3 + ", prefix: a}", "files.prefix"),
        (S3 + ", prefix: ../}", "files.prefix"),
        (S3 + ", prefix: a/../}", "files.prefix"),
        (S3 + ", access_key_id_env: K}", "must both be set"),
        (S3 + ", session_token_env: T}", "session_token_env needs"),
        (S3 + ", endpoint_url: 'ftp://x'}", "files.endpoint_url"),
        (S3 + ", endpoint_url: 'https://key:word@x'}", "use access_key_id_env"),
        (S3 + ", secret_access_key: x}", "secret_access_key"),
        (S3 + ", anonymous: true}", "anonymous does not belong to kind s3"),
        ("files: {kind: gcs}", "bucket must be set"),
        (GCS + ", region: eu-1}", "region does not belong to kind gcs"),
        (GCS + ", access_key_id_env: K}", "access_key_id_env does not belong to kind gcs"),
        (GCS + ", anonymous: true, service_account_file: a.json}", "anonymous excludes"),
        (GCS + ", endpoint_url: 'http://gcs.example'}", "no token is sent in the clear"),
    ],
)
def test_a_place_of_files_that_does_not_fit_together_is_refused(text: str, words: str) -> None:
    assert words in refusal(text)


def test_files_in_google_cloud_storage_name_the_file_of_their_account() -> None:
    files = load(GCS + ", prefix: a/, service_account_file: account.json}").files
    emulated = load(GCS + ", anonymous: true, endpoint_url: 'http://127.0.0.1:4443/'}").files

    assert (files.bucket, files.prefix, str(files.service_account_file)) == (
        "regate_files",
        "a/",
        "account.json",
    )
    assert (emulated.endpoint_url, emulated.anonymous) == ("http://127.0.0.1:4443", True)


def test_what_is_said_of_a_database_reaches_it() -> None:
    given = load(
        "state: {url_env: X, pool_size: 3, connect_timeout_s: 2, statement_timeout_s: 8, "
        "idle_in_transaction_timeout_s: 9, row_security: false}"
    )
    options = server_options(given.state)

    assert options == ServerOptions(3, 2, 8, 9, row_security=False)
    assert (options.call_s(5), server_options(load("").state).call_s(5)) == (10, 5)
    assert server_options(load("").state) == ServerOptions()


@pytest.mark.parametrize(
    ("export", "says"),
    [
        ("{name: a, kind: otlp}", "url must be set"),
        ("{name: a, kind: otlp, url: 'http://u:p@collector/v1/logs'}", "use authorization_env"),
        ("{name: a, kind: otlp, url: 'file:///etc/passwd'}", "http or https"),
        ("{name: a, kind: postgres}", "url_env must be set"),
        ("{name: a, kind: postgres, url_env: X, url: 'http://collector'}", "no url"),
        ("{name: a, kind: postgres, url_env: X, table: 'a; DROP TABLE b'}", "table"),
        ("{name: '../a', kind: postgres, url_env: X}", "name"),
        ("{name: a, kind: postgres, url_env: X}, {name: a, kind: postgres, url_env: Y}", "twice"),
        ("{name: a, kind: kafka, url: 'http://k'}", "kind"),
    ],
)
def test_exports_that_cannot_be_meant_are_refused(export: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load(f"audit: {{export: [{export}]}}")


def test_exports_say_where_records_go() -> None:
    settings = load(
        "audit: {export: [{name: siem, kind: otlp, url: 'http://10.0.0.7:4318/v1/logs'}, "
        "{name: warehouse, kind: postgres, url_env: AUDIT_URL, table: kept.audit}]}"
    )

    assert [(one.name, one.url, one.url_env, one.table) for one in settings.audit.export] == [
        ("siem", "http://10.0.0.7:4318/v1/logs", None, "regate_audit"),
        ("warehouse", None, "AUDIT_URL", "kept.audit"),
    ]
