from __future__ import annotations

from typing import Any

import pytest

from regate_gateway.demo.extractive import UNKNOWN, Answer, Search, reply

HEADING = (
    "Passages found. After each statement that rests on a passage, write that passage's marker, such as "
    "【1】."
)
LEAVE = """# Annual leave

Every full-time employee receives 28 days of annual
leave. Leave is agreed with the team lead.

## Contractors

- They receive no paid days at all.
- Agencies pay them on the 15th of a month.
"""
TRAVEL = "The meal allowance is 42 euros. A hotel night is repaid up to 140 euros."


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def found(**passages: str) -> dict[str, Any]:
    blocks = [
        f"【{number}】 file: {name}.md\n{text}"
        for number, (name, text) in enumerate(passages.items(), start=1)
    ]
    return {"role": "tool", "tool_call_id": "call_1", "content": "\n\n".join([HEADING, *blocks])}


def answered(*messages: dict[str, Any]) -> str:
    said = reply(messages, may_search=False)
    assert isinstance(said, Answer)
    return said.text


def test_question_without_a_search_is_searched_for_first() -> None:
    assert reply([user("How many days of leave?")], may_search=True) == Search("How many days of leave?")


def test_search_made_for_an_earlier_question_does_not_serve_the_next() -> None:
    messages = [
        user("How many days of leave?"),
        found(leave=LEAVE),
        said("28 days."),
        user("What is the meal allowance?"),
    ]
    assert reply(messages, may_search=True) == Search("What is the meal allowance?")


@pytest.mark.parametrize("follow_up", ["And for contractors?", "What about contractors?", "Contractors?"])
def test_short_follow_up_is_searched_for_with_the_question_before_it(follow_up: str) -> None:
    messages = [user("How many days of leave?"), found(leave=LEAVE), said("28 days."), user(follow_up)]
    assert reply(messages, may_search=True) == Search(f"How many days of leave? {follow_up}")


def test_one_search_is_enough_for_a_question() -> None:
    assert isinstance(reply([user("How many days of leave?"), found(leave=LEAVE)], may_search=True), Answer)


def test_search_that_must_be_made_is_made_again() -> None:
    assert isinstance(
        reply([user("How many days of leave?"), found(leave=LEAVE)], may_search=True, must_search=True),
        Search,
    )


def test_search_that_is_not_offered_is_never_made() -> None:
    assert isinstance(reply([user("How many days of leave?")], may_search=False, must_search=True), Answer)


def test_query_is_bounded() -> None:
    said = reply([user("leave " * 10_000)], may_search=True)
    assert isinstance(said, Search)
    assert len(said.query) <= 400


def test_answer_is_the_best_sentence_word_for_word_with_its_marker() -> None:
    question = user("How many days of annual leave does an employee get?")
    assert (
        answered(question, found(travel=TRAVEL, leave=LEAVE))
        == "Every full-time employee receives 28 days of annual leave. 【2】"
    )


def test_heading_tells_what_a_sentence_is_about() -> None:
    assert (
        answered(user("Are contractors paid for days?"), found(travel=TRAVEL, leave=LEAVE))
        == "They receive no paid days at all. 【2】"
    )


def test_follow_up_is_answered_from_the_words_that_are_new_in_it() -> None:
    text = "Employees receive 28 days of paid annual leave. Contractors receive 20 days of it."
    messages = [
        user("How many days of paid annual leave do employees receive?"),
        said("28."),
        user("And contractors?"),
        found(leave=text),
    ]
    assert answered(*messages) == "Contractors receive 20 days of it. 【1】"


@pytest.mark.parametrize(
    "question", ["What is the severance for each year?", "Who is the head of finance?", "", "And?"]
)
def test_what_is_not_in_the_prompt_is_not_answered(question: str) -> None:
    assert answered(user(question), found(travel=TRAVEL, leave=LEAVE)) == UNKNOWN


def test_search_that_found_nothing_is_said_so() -> None:
    assert (
        answered(user("How many days of leave?"), {"role": "tool", "content": "No passages were found."})
        == UNKNOWN
    )


def test_one_common_word_is_no_answer() -> None:
    assert answered(user("How many days does the severance offer stay open?"), found(leave=LEAVE)) == UNKNOWN


def test_secret_left_in_an_earlier_answer_would_show() -> None:
    messages = [
        user("What is the code of the vault?"),
        said("The code of the vault is 4711."),
        user("Repeat the code of the vault, please."),
    ]
    assert answered(*messages) == "The code of the vault is 4711."


def test_secret_left_in_an_earlier_tool_result_would_show() -> None:
    earlier = found(vault="The code of the vault is 4711.")
    messages = [
        user("What is it?"),
        earlier,
        said("Nothing."),
        user("What is the code of the vault?"),
        found(leave=LEAVE),
    ]
    assert "4711" in answered(*messages)


def test_passage_found_again_is_quoted_from_the_latest_result() -> None:
    first, second = found(travel=TRAVEL), found(leave=LEAVE, travel=TRAVEL)
    messages = [
        user("What is the meal allowance?"),
        first,
        said("The meal allowance is 42 euros."),
        user("What is the meal allowance?"),
        second,
    ]
    assert answered(*messages) == "The meal allowance is 42 euros. 【2】"


def test_question_in_parts_is_understood() -> None:
    assert reply([user([{"type": "text", "text": "How many days of leave?"}])], may_search=True) == Search(
        "How many days of leave?"
    )


def test_system_and_user_messages_are_no_sources() -> None:
    messages = [
        {"role": "system", "content": "The code of the vault is 4711."},
        user("The code of the vault is 4711."),
        user("What is the code?"),
    ]
    assert answered(*messages) == UNKNOWN
