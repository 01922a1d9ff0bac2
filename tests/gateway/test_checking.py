"""What keeps a configuration from starting, found without a connection and without a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from regate_gateway.composition.checking import faults
from regate_gateway.config.loading import load_settings

UNSTARTABLE = {
    "bundle file without a key": (
        "opa: {bundle: regate.yaml}",
        "opa.bundle: a bundle file is loaded by its signature only",
    ),
    "absent policies": ("opa: {bundle: /nope}", "opa.bundle: there is no /nope"),
    "absent key": (
        "opa: {bundle: regate.yaml, verification_key: nope.pem}",
        "opa.verification_key: there is no nope.pem",
    ),
    "a key for a directory": (
        "opa: {bundle: ., verification_key: regate.yaml}",
        "opa.verification_key: a directory has no signature",
    ),
    "an OPA that is none": ("opa: {binary: /bin/false}", "opa.binary: /bin/false is no OPA"),
    "data where none can be": (
        "data_dir: /proc/x",
        "data_dir: the directory /proc/x cannot be made in /proc",
    ),
    "data below a file": ("data_dir: regate.yaml/x", "data_dir: the directory regate.yaml/x cannot be made"),
    "records where none can be": (
        "audit: {path: /proc/x}",
        "audit.path: the directory /proc/x cannot be made",
    ),
    "a database that is a directory": ("state: {url: 'sqlite:///.'}", "state.url: "),
    "a variable that holds no URL": (
        "state: {url_env: MISSPELT}",
        "state.url_env (MISSPELT): not a database URL",
    ),
    "a variable that holds no URL of PostgreSQL": (
        "vector: {stores: {main: {kind: pgvector, url_env: MISSPELT}}}",
        "vector.stores.main.url_env (MISSPELT): not a URL of PostgreSQL",
    ),
    "a variable that is not set": (
        "opa: {mode: remote, url: 'http://h', token_env: NO_TOKEN}",
        "opa.token_env: the environment variable NO_TOKEN",
    ),
    "a guard's key that is not set": (
        """guards:
  providers:
    - {name: m, kind: moderation, steps: [input], model: m, base_url: 'http://h', api_key_env: NO_KEY}
""",
        "guards.providers.m.api_key_env: the environment variable NO_KEY",
    ),
    "a token with the end of its line": (
        "opa: {mode: remote, url: 'http://h', token_env: LINE}",
        "opa.token_env: it must be plain ASCII in one line",
    ),
    "a guard's key with the end of its line": (
        """guards:
  providers:
    - {name: m, kind: moderation, steps: [input], model: m, base_url: 'http://h', api_key_env: LINE}
""",
        "guards.providers.m.api_key_env: it must be plain ASCII in one line",
    ),
    "a search's key with the end of its line": (
        "tools: {web_search: {kind: brave, base_url: 'http://h', api_key_env: LINE}}",
        "tools.web_search.api_key_env: it must be plain ASCII in one line",
    ),
    "a server's token with the end of its line": (
        "tools: {mcp: {servers: {a: {url: 'http://h', identity: {kind: static, token_env: LINE}}}}}",
        "tools.mcp.servers.a.identity.token_env: it must be plain ASCII in one line",
    ),
    "a destination's authorization with the end of its line": (
        "audit: {export: [{name: a, kind: otlp, url: 'http://h', authorization_env: LINE}]}",
        "authorization_env: it must be plain ASCII in one line",
    ),
    "workers on SQLite": (
        "listen: {workers: 2}",
        "state.url: SQLite serves one process, so workers need PostgreSQL (listen.workers is 2)",
    ),
    "workers with an engine inside of each": (
        "listen: {workers: 2}",
        "vector.stores.main.kind: local lies in one process; workers need a server (listen.workers is 2)",
    ),
    "workers with a candidate": (
        "{listen: {workers: 2}, opa: {shadow: .}}",
        "opa.shadow: a candidate is compared by one process only (listen.workers is 2)",
    ),
    "a secret that is too short": (
        "state: {sealing_key_env: MISSPELT}",
        "state.sealing_key_env: the secret has fewer than 32 bytes",
    ),
    "a Chroma server without a port": (
        "vector: {stores: {main: {kind: chroma_server, url: 'http://h:x'}}}",
        "vector.stores: url of a Chroma server has no valid port",
    ),
    "authorities that are none": (
        "egress: {ca_file: regate.yaml}",
        "egress.ca_file: regate.yaml holds no certificates",
    ),
    "Google Cloud Storage with a file that is no account": (
        "files: {kind: gcs, bucket: abc, service_account_file: regate.yaml}",
        "files.service_account_file: regate.yaml is not the JSON key of a service account (JSONDecodeError)",
    ),
    "S3 without its keys": (
        "files: {kind: s3, bucket: abc, access_key_id_env: NO_ID, secret_access_key_env: NO_KEY}",
        "files.access_key_id_env: the environment variable NO_ID",
    ),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINE", "swordfish\n")
    monkeypatch.setenv("MISSPELT", "postgres//swordfish@h")


def found(text: str) -> list[str]:
    Path("regate.yaml").write_text(text, encoding="utf-8")
    return faults(load_settings())


@pytest.mark.parametrize(("text", "said"), UNSTARTABLE.values(), ids=UNSTARTABLE.keys())
def test_fault_is_told_by_its_setting_and_without_secrets_and_nothing_is_made(
    tmp_path: Path, text: str, said: str
) -> None:
    told = "\n".join(found(text))
    assert (said in told, "swordfish" in told, [path.name for path in tmp_path.iterdir()]) == (
        True,
        False,
        ["regate.yaml"],
    )


def test_every_fault_is_told_at_once() -> None:
    told = [fault.partition(":")[0] for fault in found("{opa: {bundle: /nope}, data_dir: /proc/x}")]
    assert told == [
        "data_dir",
        "files.path",
        "audit.path",
        "vector.stores.main.path",
        "state.url",
        "opa.bundle",
    ]


def test_nothing_is_wrong_with_the_defaults() -> None:
    assert found("") == []


def test_workers_may_use_engines_that_are_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URL", "postgresql://regate@127.0.0.1/regate")
    stores = "{a: {kind: pgvector, url_env: URL}, b: {kind: chroma_server, url: 'http://127.0.0.1:8000'}}"
    settings = (
        f"{{listen: {{workers: 2}}, state: {{url_env: URL}}, vector: {{default: a, stores: {stores}}}}}"
    )

    assert found(settings) == []
