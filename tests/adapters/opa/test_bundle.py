"""Policy directories become bundles with a revision of their own, or are refused with OPA's words."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.opa.policies import CHUNK, write_policies

from regate_adapters.opa.policies.bundle import build_bundle
from regate_adapters.opa.policies.source import BrokenPolicy, fingerprint, read_source

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"tenant": {"type": "string"}},
}

CHECKED = """# METADATA
# scope: package
# schemas:
#   - input.chunk: schema.chunk
package regate.checked

allow if input.chunk.tennant == "acme"
"""


def built(directory: Path, tmp_path: Path, opa: Path) -> dict[str, Any]:
    """Return the data of the bundle made of the directory."""
    target = tmp_path / "bundle.tar.gz"
    build_bundle(read_source(directory), target, opa=opa)
    with tarfile.open(target) as bundle:
        data = bundle.extractfile("/data.json")
        assert data is not None
        content: dict[str, Any] = json.load(data)
        return content


def test_revision_is_of_the_content_not_of_the_time(policies: Path) -> None:
    before = read_source(policies).revision
    (policies / "chunk" / "chunk.rego").touch()

    assert read_source(policies).revision == before


def test_opa_is_not_asked_again_about_what_did_not_change(policies: Path, tmp_path: Path, opa: Path) -> None:
    log, noting = tmp_path / "log", tmp_path / "noting-opa"
    noting.write_text(f'#!/bin/sh\necho "$1" >> "{log}"\nexec "{opa}" "$@"\n')
    noting.chmod(0o755)
    asked = []
    for _ in range(2):
        log.write_text("")
        built(policies, tmp_path, noting)
        asked.append(log.read_text().split())
    log.write_text("")
    (policies / "chunk" / "more.rego").write_text("package regate.more\n\nallow if input.level == 1\n")
    places = built(policies, tmp_path, noting)["regate"]["meta"]["places"]

    assert (asked, log.read_text().split()) == (
        [["check", "parse", "parse", "check"], []],
        ["check", "parse", "check"],
    )
    assert places["data.regate.more.allow"] == "chunk/more.rego:3"


@pytest.mark.parametrize(
    "name", ["chunk/more.rego", "data.json", "data.yaml", "schemas/chunk.json", ".manifest"]
)
def test_revision_changes_with_every_file_that_decides(policies: Path, name: str) -> None:
    before, seen = read_source(policies).revision, fingerprint(policies)
    (policies / name).parent.mkdir(exist_ok=True)
    (policies / name).write_text("package regate.more", encoding="utf-8")

    assert read_source(policies).revision != before
    assert fingerprint(policies) != seen


@pytest.mark.parametrize("name", ["chunk/chunk_test.rego", "README.md", ".git/data.json"])
def test_revision_does_not_change_with_files_that_decide_nothing(policies: Path, name: str) -> None:
    before, seen = read_source(policies).revision, fingerprint(policies)
    (policies / name).parent.mkdir(exist_ok=True)
    (policies / name).write_text("package regate.more", encoding="utf-8")

    assert read_source(policies).revision == before
    assert fingerprint(policies) == seen


def test_moving_text_between_files_changes_the_revision(tmp_path: Path) -> None:
    one = write_policies(tmp_path / "one", {"a.rego": "package a", "b.rego": ""})
    two = write_policies(tmp_path / "two", {"a.rego": "", "b.rego": "package a"})

    assert read_source(one).revision != read_source(two).revision


def test_bundle_says_its_revision_twice(policies: Path, tmp_path: Path, opa: Path) -> None:
    data = built(policies, tmp_path, opa)
    with tarfile.open(tmp_path / "bundle.tar.gz") as bundle:
        manifest = bundle.extractfile("/.manifest")
        assert manifest is not None
        revision = json.load(manifest)["revision"]

    assert data["regate"]["meta"]["revision"] == revision == read_source(policies).revision


def test_helpers_are_the_boolean_rules_that_a_filter_is_made_of(
    policies: Path, tmp_path: Path, opa: Path
) -> None:
    helpers = built(policies, tmp_path, opa)["regate"]["meta"]["helpers"]

    assert helpers["regate/chunk"] == [
        "data.regate.chunk._same_tenant",
        "data.regate.chunk.denied",
        "data.regate.chunk.shared",
    ]


def test_helpers_of_a_library_count_for_whoever_uses_it(tmp_path: Path, opa: Path) -> None:
    directory = write_policies(
        tmp_path / "policies",
        {
            "store.rego": "package regate.store\n\nimport data.regate.lib.rows\n\nallow if rows.own\n",
            "rows.rego": "package regate.lib.rows\n\nown if data.regate.lib.deep.known\n",
            "deep.rego": (
                "package regate.lib.deep\n\nknown if input.store.tenant\n\nname := "
                "input.store.name\n\nf(x) if x\n"
            ),
            "other.rego": "package regate.other\n\nunrelated if input.store.tenant\n",
        },
    )

    helpers = built(directory, tmp_path, opa)["regate"]["meta"]["helpers"]

    assert helpers["regate/store"] == ["data.regate.lib.deep.known", "data.regate.lib.rows.own"]


def test_rules_with_else_or_other_values_are_no_helpers(tmp_path: Path, opa: Path) -> None:
    text = """package regate.chunk

a if input.x else := false

b := 1 if input.x

c := input.x == 1

d contains 1 if input.x

e[input.x] if input.y

f.g if input.x

default h := false

h if input.x
"""
    directory = write_policies(tmp_path / "policies", {"chunk.rego": text})

    assert built(directory, tmp_path, opa)["regate"]["meta"]["helpers"]["regate/chunk"] == [
        "data.regate.chunk.h"
    ]


def test_places_of_rules_are_kept_for_messages(policies: Path, tmp_path: Path, opa: Path) -> None:
    places = built(policies, tmp_path, opa)["regate"]["meta"]["places"]

    line = CHUNK.splitlines().index("allow if {") + 1
    assert places["data.regate.chunk.allow"] == f"chunk/chunk.rego:{line}"


def test_broken_policy_is_refused_in_the_words_of_opa_and_leaves_the_old_bundle(
    policies: Path, tmp_path: Path, opa: Path
) -> None:
    built(policies, tmp_path, opa)
    before = (tmp_path / "bundle.tar.gz").read_bytes()
    (policies / "chunk" / "chunk.rego").write_text("package regate.chunk\n\nallow if {", encoding="utf-8")

    with pytest.raises(BrokenPolicy, match=r"chunk/chunk\.rego:3: rego_parse_error"):
        built(policies, tmp_path, opa)
    assert (tmp_path / "bundle.tar.gz").read_bytes() == before


def test_field_that_the_schema_does_not_have_is_refused(tmp_path: Path, opa: Path) -> None:
    directory = write_policies(
        tmp_path / "policies", {"chunk.rego": CHECKED, "schemas/chunk.json": json.dumps(SCHEMA)}
    )

    with pytest.raises(BrokenPolicy, match=r"undefined ref: input\.chunk\.tennant"):
        built(directory, tmp_path, opa)


def test_directory_without_policies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenPolicy, match=r"holds no \.rego file"):
        read_source(tmp_path)


def test_policies_may_not_write_what_the_bundle_says_of_itself(
    policies: Path, tmp_path: Path, opa: Path
) -> None:
    write_policies(policies, {"regate/meta/data.json": '{"revision": "mine"}'})

    with pytest.raises(BrokenPolicy, match="reserved"):
        built(policies, tmp_path, opa)


def test_bundle_with_a_token_needs_a_rule_that_asks_for_it(policies: Path, tmp_path: Path, opa: Path) -> None:
    (policies / "system" / "authz.rego").unlink()

    with pytest.raises(BrokenPolicy, match=r"system\.authz"):
        build_bundle(read_source(policies), tmp_path / "bundle.tar.gz", opa=opa, gateway_token="t")


def test_bundle_can_be_read_by_its_owner_only(policies: Path, tmp_path: Path, opa: Path) -> None:
    built(policies, tmp_path, opa)

    assert (tmp_path / "bundle.tar.gz").stat().st_mode & 0o777 == 0o600


def test_modules_run_as_they_were_written(tmp_path: Path, opa: Path) -> None:
    written = "package regate.odd\n\nallow if {\n\tinput.a\n\t(-1) == input.b\n}\n"
    directory = write_policies(tmp_path / "rego", {"odd/odd.rego": written})
    build_bundle(read_source(directory), tmp_path / "bundle.tar.gz", opa=opa)
    with tarfile.open(tmp_path / "bundle.tar.gz") as bundle:
        module = bundle.extractfile("/odd/odd.rego")
        assert module is not None

        assert module.read().decode() == written


def test_data_given_twice_is_refused(tmp_path: Path, opa: Path) -> None:
    directory = write_policies(tmp_path / "rego", {"chunk/chunk.rego": CHUNK})
    (directory / "data.json").write_text('{"regate": {"limit": 1}}')
    (directory / "regate").mkdir()
    (directory / "regate" / "data.json").write_text('{"limit": 2}')

    with pytest.raises(BrokenPolicy, match=r"data\.json"):
        build_bundle(read_source(directory), tmp_path / "bundle.tar.gz", opa=opa)
