"""What a team adds to the policies: its rules reach the filter, its misspellings and its broken data
are refused when they are loaded.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any, Final

import pytest
from tests.adapters.opa.policies import write_policies

from regate_adapters.opa.policies.bundle import build_bundle
from regate_adapters.opa.policies.source import BrokenPolicy, read_source

REGO: Final = Path(__file__).parents[3] / "rego"

CONSULTING: Final = """package regate.chunk

default allow := false

allow if {
	input.chunk.tenant == input.principal.tenant
	not data.regate.custom.chunk.deny
}
"""

DENYING: Final = "package regate.custom.chunk\n\ndeny if not _near\n\n_near if input.chunk.near\n"


def built(directory: Path, tmp_path: Path, opa: Path) -> dict[str, Any]:
    """Return the data of the bundle made of the directory."""
    target = tmp_path / "bundle.tar.gz"
    build_bundle(read_source(directory), target, opa=opa)
    with tarfile.open(target) as bundle:
        data = bundle.extractfile("/data.json")
        assert data is not None
        content: dict[str, Any] = json.load(data)
        return content


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return Path(shutil.copytree(REGO, tmp_path / "rego"))


def test_custom_rules_are_helpers_of_the_rule_that_consults_them(tmp_path: Path, opa: Path) -> None:
    directory = write_policies(
        tmp_path / "policies", {"chunk.rego": CONSULTING, "custom/chunk/chunk.rego": DENYING}
    )

    helpers = built(directory, tmp_path, opa)["regate"]["meta"]["helpers"]

    assert helpers["regate/chunk"] == ["data.regate.custom.chunk._near", "data.regate.custom.chunk.deny"]


def test_custom_rule_that_does_not_exist_is_no_helper(shipped: Path, tmp_path: Path, opa: Path) -> None:
    # Listed, it would stay in the residual as something that nobody can resolve.
    helpers = built(shipped, tmp_path, opa)["regate"]["meta"]["helpers"]

    assert not [helper for helper in helpers["regate/chunk"] if "custom" in helper]


def test_helpers_are_found_through_the_import_of_a_package_above_them(tmp_path: Path, opa: Path) -> None:
    text = "package regate.store\n\nimport data.regate.lib\n\nallow if lib.rows.own\n"
    rows = "package regate.lib.rows\n\nown if input.store.tenant\n"
    directory = write_policies(tmp_path / "policies", {"store.rego": text, "rows.rego": rows})

    assert built(directory, tmp_path, opa)["regate"]["meta"]["helpers"]["regate/store"] == [
        "data.regate.lib.rows.own"
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("custom/chunk/chunk.rego", "package regate.custom.chunk\n\ndenny if input.chunk.far\n",
        r"chunk\.rego:3: .*regate\.custom\.chunk\.denny"),
        ("custom/chnk/chnk.rego", "package regate.custom.chnk\n\ndeny if input.chunk.far\n",
        r"chnk\.rego:3: .*regate\.custom\.chnk\.deny"),
        ("custom/custom.rego", "package regate.custom\n\ndeny if input.chunk.far\n",
        r"custom\.rego:3: .*regate\.custom\.deny"),
    ],
)  # fmt: skip
def test_custom_rule_that_nothing_consults_is_refused(
    shipped: Path, tmp_path: Path, opa: Path, name: str, text: str, said: str
) -> None:
    write_policies(shipped, {name: text})

    with pytest.raises(BrokenPolicy, match=said):
        built(shipped, tmp_path, opa)


def test_custom_package_that_custom_rules_import_may_have_any_rules(
    shipped: Path, tmp_path: Path, opa: Path
) -> None:
    using = "package regate.custom.chunk\n\nimport data.regate.custom.places\n\ndeny if places.far\n"
    places = "package regate.custom.places\n\nfar if input.chunk.level > 1\n"
    write_policies(shipped, {"custom/chunk/chunk.rego": using, "custom/places/places.rego": places})

    helpers = built(shipped, tmp_path, opa)["regate"]["meta"]["helpers"]

    assert {"data.regate.custom.chunk.deny", "data.regate.custom.places.far"} <= set(helpers["regate/chunk"])


def test_document_of_the_team_is_added_to_the_default(shipped: Path, tmp_path: Path, opa: Path) -> None:
    write_policies(shipped, {"regate/deny_labels/data.json": '{"board": "director"}'})

    assert built(shipped, tmp_path, opa)["regate"]["deny_labels"] == {"board": "director", "hr-only": "hr"}


@pytest.mark.parametrize(
    ("document", "text", "said"),
    [
        ("deny_labels", '{"hr-only": "boss"}', "deny_labels"),
        ("models", '{"big": "globex"}', r"data\.regate\.models: big: Invalid type"),
        ("tools", '{"web": {"type": "web_search"}}', r"data\.regate\.tools: web: tenants is required"),
        (
            "tenants",
            '{"acme": {"suspnded": true, "suspended": true, "admins": []}}',
            r"data\.regate\.tenants: acme: .*suspnded",
        ),
        ("quotas", '{"tenants": {"acme": {"rpm": -1}}}', r"data\.regate\.quotas: tenants\.acme\.rpm"),
    ],
)
def test_document_that_contradicts_the_default_or_its_schema_is_refused(
    shipped: Path, tmp_path: Path, opa: Path, document: str, text: str, said: str
) -> None:
    write_policies(shipped, {f"regate/{document}/data.json": text})

    with pytest.raises(BrokenPolicy, match=said):
        built(shipped, tmp_path, opa)


def test_missing_document_is_refused_for_it_would_restrict_nothing(
    shipped: Path, tmp_path: Path, opa: Path
) -> None:
    data = json.loads((shipped / "data.json").read_text(encoding="utf-8"))
    del data["regate"]["deny_labels"]
    (shipped / "data.json").write_text(json.dumps(data), encoding="utf-8")

    with pytest.raises(BrokenPolicy, match=r"data\.regate\.deny_labels is missing"):
        built(shipped, tmp_path, opa)


def test_document_of_the_teams_own_needs_only_a_schema(shipped: Path, tmp_path: Path, opa: Path) -> None:
    schema = '{"type": "array", "items": {"type": "string"}}'
    write_policies(shipped, {"regate/regions/data.json": '["eu"]', "schemas/operators/regions.json": schema})

    assert built(shipped, tmp_path, opa)["regate"]["regions"] == ["eu"]
