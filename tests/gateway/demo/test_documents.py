"""The demonstration's documents: they are what `index.json` says, and the quoting model finds in them
what its questions ask for.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest

from regate_gateway.demo.extractive import UNKNOWN, Answer, reply
from regate_orchestrator.documents.attributes import split_attributes

FOLDER = files("regate_gateway.demo") / "documents"
INDEX: dict[str, Any] = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))
TENANTS: dict[str, Any] = INDEX["tenants"]
DOCUMENTS = [(tenant, document) for tenant, about in TENANTS.items() for document in about["documents"]]
PEOPLE = {
    person["sub"]: (tenant, person) for tenant, about in TENANTS.items() for person in about["principals"]
}
QUESTIONS = [(question, sub) for question in INDEX["questions"] for sub in PEOPLE]


def text_of(file: str) -> str:
    return (FOLDER / file).read_text(encoding="utf-8")


def shared_with(sub: str) -> list[str]:
    """Return the files that the attributes, as documented for clients, ask to be shared with this person."""
    tenant, person = PEOPLE[sub]
    shared = []
    for document in TENANTS[tenant]["documents"]:
        requested = split_attributes(document["attributes"], param="attributes").requested
        teams, labels = requested.get("teams", []), requested.get("labels", [])
        member = requested.get("visibility") == "tenant" or set(person["teams"]) & set(teams)  # type: ignore[arg-type]
        if document["owner"] == sub or (member and ("hr-only" not in labels or "hr" in person["roles"])):  # type: ignore[operator]
            shared.append(document["file"])
    return shared


def prompt(question: str, shown: list[str]) -> list[dict[str, Any]]:
    blocks = [f"【{number}】 file: {file}\n{text_of(file)}" for number, file in enumerate(shown, start=1)]
    return [
        {"role": "user", "content": question},
        {"role": "tool", "content": "\n\n".join(["Passages found.", *blocks])},
    ]


def answer(messages: list[dict[str, Any]]) -> str:
    said = reply(messages, may_search=False)
    assert isinstance(said, Answer)
    return said.text


def test_index_names_every_document_and_no_other() -> None:
    present = {f"{tenant}/{file.name}" for tenant in TENANTS for file in (FOLDER / tenant).iterdir()}
    assert present == {document["file"] for _, document in DOCUMENTS}
    assert len(DOCUMENTS) == 24


@pytest.mark.parametrize(
    ("tenant", "document"), DOCUMENTS, ids=[document["file"] for _, document in DOCUMENTS]
)
def test_document_is_short_and_its_owner_holds_what_is_requested(
    tenant: str, document: dict[str, Any]
) -> None:
    home, owner = PEOPLE[document["owner"]]
    split = split_attributes(document["attributes"], param="attributes")
    assert home == tenant
    assert dict(split.own) == {}
    assert set(split.requested.get("teams", [])) <= set(owner["teams"])  # type: ignore[arg-type]
    assert 120 <= len(text_of(document["file"]).split()) <= 250


def test_one_person_of_each_tenant_sees_all_and_the_other_a_part() -> None:
    counts = {sub: len(shared_with(sub)) for sub in PEOPLE}
    assert counts == {"alice": 12, "bob": 8, "carol": 12, "dave": 8}


def test_two_tenants_have_the_same_topics() -> None:
    topics = [
        {document["file"].partition("/")[2] for document in about["documents"]} for about in TENANTS.values()
    ]
    assert topics[0] == topics[1]


@pytest.mark.parametrize("question", INDEX["questions"], ids=lambda question: question["topic"])
def test_answers_of_the_two_tenants_differ(question: dict[str, Any]) -> None:
    for says in [question["says"], *([question["follow_up_says"]] if "follow_up_says" in question else [])]:
        held = {
            (tenant, other)
            for tenant in TENANTS
            for other in TENANTS
            if says[other] in text_of(f"{tenant}/{question['topic']}")
        }
        assert held == {("acme", "acme"), ("globex", "globex")}


@pytest.mark.parametrize(
    ("question", "sub"), QUESTIONS, ids=[f"{sub}: {question['topic']}" for question, sub in QUESTIONS]
)
def test_question_is_answered_for_those_who_may_see_it_and_for_nobody_else(
    question: dict[str, Any], sub: str
) -> None:
    said = answer(prompt(question["question"], shared_with(sub)))
    says = question["says"][PEOPLE[sub][0]]
    assert (says in said) if sub in question["seen_by"] else (said == UNKNOWN)


@pytest.mark.parametrize("sub", PEOPLE)
def test_follow_up_is_answered_too(sub: str) -> None:
    question = INDEX["questions"][0]
    first = prompt(question["question"], shared_with(sub))
    again = prompt(question["follow_up"], shared_with(sub))
    said = answer([*first, {"role": "assistant", "content": answer(first)}, *again])
    assert question["follow_up_says"][PEOPLE[sub][0]] in said


@pytest.mark.parametrize("question", INDEX["questions"], ids=lambda question: question["topic"])
def test_document_of_the_other_tenant_would_be_quoted_if_it_were_in_the_prompt(
    question: dict[str, Any],
) -> None:
    said = answer(prompt(question["question"], [f"globex/{question['topic']}", *shared_with("bob")]))
    assert question["says"]["globex"] in said
