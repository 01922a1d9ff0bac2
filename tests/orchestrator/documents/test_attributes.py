"""Attributes: the client's own, requests to the policy, and names that nobody may believe to do something."""

from __future__ import annotations

from typing import Any

import pytest

from regate_orchestrator.documents.attributes import split_attributes
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters.attribute_keys import RESERVED


def test_requests_go_to_the_policy_and_the_rest_stays_the_clients() -> None:
    split = split_attributes(
        {"colour": "red", "regate.teams": "hr, rnd", "regate.level": "2", "regate.visibility": "private"},
        param="attributes",
    )

    assert split.own == {"colour": "red"}
    assert split.requested == {"teams": ["hr", "rnd"], "level": 2, "visibility": "private"}


@pytest.mark.parametrize(
    "name",
    [
        *sorted(RESERVED),
        "Tenant",
        "OWNER",
        "_gw_schema",
        "_x",
        " tenant",
        "tenant\n",
        "\uff54enant",
        "\uff3fx",
        " _x",
        " regate.teams",
        "\uff52egate.teams",
    ],
)
def test_reserved_names_are_refused_in_any_case(name: str) -> None:
    with pytest.raises(InvalidRequest, match="reserved"):
        split_attributes({name: "globex"}, param="attributes")


@pytest.mark.parametrize(
    "values",
    [
        {"regate.tenant": "globex"},
        {"regate.owner": "bob"},
        {"REGATE.teams": 7},
        {"regate.share": "all_tenants"},
        {"regate.level": -1},
        {"regate.level": True},
        {"regate.visibility": "public"},
        {"": 1},
        {"a\x00b": 1},
        {"\ud800": 1},
        {"k": "\udfff"},
        {"k" * 65: 1},
        {"k": "x" * 513},
        {"k": "a\x00b"},
        {"k": [1]},
        {"k": None},
        {"k": 2**54},
        {f"k{number}": 1 for number in range(17)},
    ],
)
def test_everything_else_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        split_attributes(values, param="attributes")

    assert str(raised.value.param).startswith("attributes")


@pytest.mark.parametrize(
    "key",
    [
        "author name",
        "日本",
        "e\u0301",
        "\n",
        " ",
        "a'; --",
        "$or",
        "k" * 64,
        "🔑" * 64,
        "tenants",
        "regate",
        "a_b",
    ],
)
def test_any_text_of_up_to_64_characters_is_a_key_of_the_clients(key: str) -> None:
    assert split_attributes({key: 1}, param="attributes").own == {key: 1}


def test_sharing_with_all_tenants_can_be_asked_of_a_store_only() -> None:
    assert split_attributes({"regate.share": "all_tenants"}, param="metadata", for_store=True).requested == {
        "share": "all_tenants"
    }


@pytest.mark.parametrize(
    ("key", "for_store", "said"),
    [
        ("regate.team", False, "Did you mean 'regate.teams'"),
        ("regate.visibilty", False, "Did you mean 'regate.visibility'"),
        ("regate.lable", True, "Did you mean 'regate.labels'"),
        ("regate.shar", True, "Did you mean 'regate.share'"),
        ("regate.share", False, "There are: teams, roles, projects, namespaces, labels, level, visibility."),
        ("regate.xyz", False, "There are: teams"),
    ],
)
def test_sharing_request_that_is_not_known_is_answered_with_what_was_meant(
    key: str, for_store: bool, said: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        split_attributes({key: "hr"}, param="attributes", for_store=for_store)

    assert (said in refused.value.message, refused.value.code) == (True, "unknown_parameter")
