"""Tools of the API that the client runs: what a model writes becomes an item of the tool's own type, and goes
back to a model as the call that it was.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.responses import ResponseOutputItem
from pydantic import TypeAdapter
from tests.orchestrator.responses.playbook import Playbook, authorized, check_stream, request

from regate_orchestrator.model_events import ArgumentsWritten, CallOpened, ModelEnded, TextWritten, Usage
from regate_orchestrator.responses.client_tools.apply_patch import APPLY_PATCH, PATCH
from regate_orchestrator.responses.client_tools.computer import BATCH, COMPUTER, COMPUTER_PREVIEW, SINGLE
from regate_orchestrator.responses.client_tools.kind import WITHHELD, ClientKind
from regate_orchestrator.responses.client_tools.shell import EXEC_ACTION, LOCAL_SHELL, SHELL, SHELL_ACTION
from regate_orchestrator.responses.client_tools.table import CALLS, OUTPUTS
from regate_orchestrator.responses.commands import CallModel, Finish
from regate_orchestrator.responses.context.history import redacted_body
from regate_orchestrator.responses.context.sent_results import sent_results
from regate_orchestrator.responses.events import ModelOpened, Requested
from regate_orchestrator.responses.output.replay import events_of
from regate_orchestrator.responses.prompt import PromptItem, build_prompt
from regate_orchestrator.responses.request import ClientTool, Limits
from regate_orchestrator.values import JsonObject, ResponseId

OUTPUT_ITEM: TypeAdapter[Any] = TypeAdapter(ResponseOutputItem)
"""The items of a Response, as the official client has them."""
CLICK = {"type": "click", "button": "left", "x": 3, "y": 4}
ENDED = {"stdout": "a.txt", "stderr": "no b", "outcome": {"type": "exit", "exit_code": 2}}
LOST = {"stdout": "", "stderr": "", "outcome": {"type": "timeout"}}
GONE = {"stdout": "", "stderr": "", "outcome": {"type": "exit"}}
SHOT = {"type": "computer_screenshot", "image_url": "data:image/png;base64,aGk="}
PATCHED = {"type": "update_file", "path": "a.py", "diff": "@@\n-x\n+y"}
ASKED: dict[str, tuple[ClientKind, JsonObject, Any, dict[str, Any]]] = {
    "computer": (
        COMPUTER, BATCH, {"actions": [CLICK, {"type": "wait"}]},
        {"actions": [CLICK, {"type": "wait"}], "pending_safety_checks": []},
    ),
    "computer, one action": (
        COMPUTER_PREVIEW, SINGLE, {"action": {"type": "type", "text": "hi"}},
        {"action": {"type": "type", "text": "hi"}, "pending_safety_checks": []},
    ),
    "shell": (
        SHELL, SHELL_ACTION, {"commands": ["ls", "pwd"], "timeout_ms": 5},
        {"action": {"commands": ["ls", "pwd"], "timeout_ms": 5, "max_output_length": None},
         "environment": {"type": "local"}},
    ),
    "local_shell": (
        LOCAL_SHELL, EXEC_ACTION, {"command": ["ls", "-l"], "env": {"A": "b"}},
        {"action": {"type": "exec", "command": ["ls", "-l"], "env": {"A": "b"}, "timeout_ms": None,
                    "user": None, "working_directory": None}},
    ),
    "apply_patch": (APPLY_PATCH, PATCH, {"operation": PATCHED}, {"operation": PATCHED}),
    "apply_patch, a deletion": (
        APPLY_PATCH, PATCH, {"operation": {"type": "delete_file", "path": "a.py"}},
        {"operation": {"type": "delete_file", "path": "a.py"}},
    ),
}  # fmt: skip
"""What a model writes, and what the item says of it, in full."""
RETURNED: dict[str, tuple[dict[str, Any], str, str]] = {
    "computer_call_output": ({"output": SHOT}, "The screen as it is now follows.", ""),
    "shell_call_output": (
        {"output": [ENDED, LOST, GONE]}, "a.txt\n[stderr]\nno b\n[exit code 2]\n[timed out]\n[exited]", "",
    ),
    "local_shell_call_output": ({"output": "a.txt"}, "a.txt", WITHHELD),
    "apply_patch_call_output": (
        {"status": "failed", "output": "no such file"}, "The change was not made.\nno such file",
        f"The change was not made.\n{WITHHELD}",
    ),
}  # fmt: skip
"""What a client answers, what a model reads of it, and what it reads once that is withheld."""


def tool(name: str) -> ClientTool:
    kind, schema, _, _ = ASKED[name]
    return ClientTool(kind.type, "What it is.", schema, None, kind)


def wrote(name: str, *written: Any, reason: str = "tool_calls", **asked: Any) -> Playbook:
    """As far as the end of a turn that calls the tool with each of these."""
    book = Playbook(request(client_tools=(tool(name),), **asked), limits=Limits(max_rounds=2)).begin()
    for slot, arguments in enumerate(written):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        book.tell(CallOpened(slot, f"call_{slot}", tool(name).wire), ArgumentsWritten(slot, text[:5]))
        book.tell(ArgumentsWritten(slot, text[5:]))
    return book.tell(ModelEnded(reason, Usage()))  # type: ignore[arg-type]


def answered(book: Playbook) -> Any:
    return book.of(Finish)[0].response


@pytest.mark.parametrize("name", ASKED)
def test_call_is_an_item_of_its_own_type_that_the_client_gets_to_answer(name: str) -> None:
    kind, schema, arguments, members = ASKED[name]
    book = wrote(name, arguments)
    response = answered(book)
    (item,) = response["output"]
    (offered,) = book.of(CallModel)[0].payload["tools"]

    assert offered["function"]["parameters"] == schema
    assert response["status"] == "completed"
    assert item == {
        "id": item["id"], "type": kind.item_type, "status": "completed", "call_id": "call_0", **members,
    }  # fmt: skip
    assert item["id"].startswith(kind.id_prefix)
    check_stream(book.events)


@pytest.mark.parametrize("name", ASKED)
def test_call_is_told_again_as_it_was_streamed(name: str) -> None:
    book = wrote(name, ASKED[name][2])
    replayed = events_of(answered(book))

    assert replayed == book.events


@pytest.mark.parametrize("name", ASKED)
def test_items_are_the_official_clients_whatever_their_state(name: str) -> None:
    book = wrote(name, ASKED[name][2])
    items = [event["item"] for event in book.events if "item" in event]
    items.append(redacted_body(items[-1], shown=False))

    for item in items:
        assert OUTPUT_ITEM.validate_python(item).type == item["type"]


def test_commands_of_a_shell_are_told_one_by_one() -> None:
    events = [
        event for event in wrote("shell", {"commands": ["ls", "pwd"]}).events if "command_index" in event
    ]

    assert [(one["type"].rpartition(".")[2], one["command_index"]) for one in events] == [
        (step, index) for index in (0, 1) for step in ("added", "delta", "done")
    ]
    assert [one["command"] for one in events if one["type"].endswith("done")] == ["ls", "pwd"]


@pytest.mark.parametrize("name", ASKED)
def test_call_goes_back_to_a_model_as_it_was_written(name: str) -> None:
    kind, _, arguments, _ = ASKED[name]
    item = answered(wrote(name, arguments))["output"][0]
    output = PromptItem({"type": kind.output_type, "call_id": "call_0", **RETURNED[kind.output_type][0]})
    said, result = build_prompt(None, [PromptItem(item), output]).messages
    (call,) = said["tool_calls"]  # type: ignore[misc]

    written = json.loads(call["function"]["arguments"])  # type: ignore[call-overload,index]
    assert (call["function"]["name"], call["id"]) == (kind.type, "call_0")  # type: ignore[call-overload,index]
    assert written == {"env": {}, **arguments} if kind is LOCAL_SHELL else arguments
    assert (result["role"], result["content"]) == ("tool", RETURNED[kind.output_type][1])


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("shell", "ls"),
        ("shell", {"commands": []}),
        ("shell", {"commands": "ls"}),
        ("shell", {"commands": ["ls", 1]}),
        ("shell", {"commands": ["ls"], "timeout_ms": 1.5}),
        ("shell", {"commands": ["ls"], "timeout_ms": True}),
        ("shell", '{"commands": ["ls"], "timeout_ms": 1e999}'),
        ("shell", '{"commands": ["\\ud800"]}'),
        ("shell", "[" * 5_000),
        ("local_shell", {"env": {}}),
        ("local_shell", {"command": ["ls"], "env": {"A": 1}}),
        ("computer", {"actions": [{"type": "fly"}]}),
        ("computer", {"actions": [{"type": "click", "x": 1, "y": 2}]}),
        ("computer", {"action": CLICK}),
        ("computer, one action", {"actions": [CLICK]}),
        ("apply_patch", {"operation": {"type": "update_file", "path": "a.py"}}),
        ("apply_patch", {"operation": {"type": "rename_file", "path": "a.py", "diff": ""}}),
    ],
)
def test_arguments_that_do_not_fit_are_told_to_the_model_alone_which_may_call_again(
    name: str, written: Any
) -> None:
    book = wrote(name, written)
    sent = book.of(CallModel)[-1].payload["messages"]
    book.tell(ModelOpened(), TextWritten("Sorry."), ModelEnded("stop", Usage()))

    assert (sent[-1]["role"], "do not fit" in sent[-1]["content"]) == ("tool", True)
    assert [item["type"] for item in answered(book)["output"]] == ["message"]
    check_stream(book.events)


def test_model_that_never_writes_what_fits_has_given_no_answer() -> None:
    book = wrote("shell", "ls")
    book.tell(ModelOpened(), CallOpened(0, "call_1", "shell"), ModelEnded("tool_calls", Usage()))

    assert (answered(book)["status"], answered(book)["output"]) == ("failed", [])
    check_stream(book.events)


def test_call_that_fits_is_the_clients_even_beside_one_that_does_not() -> None:
    book = wrote("shell", "ls", {"commands": ["ls"]})

    assert (answered(book)["status"], len(answered(book)["output"])) == ("completed", 1)
    assert len(book.of(CallModel)) == 1


@pytest.mark.parametrize("name", ASKED)
def test_call_that_was_cut_is_no_item(name: str) -> None:
    text = json.dumps(ASKED[name][2])
    for cut in (text, text[:-1]):
        book = wrote(name, cut, reason="length")
        assert (answered(book)["status"], answered(book)["output"]) == ("incomplete", [])
        check_stream(book.events)


@pytest.mark.parametrize(
    ("name", "written", "kept"),
    [
        ("shell", {"commands": ["ls"], "timeout_ms": None, "why": "to look"}, {"commands": ["ls"]}),
        ("shell", {"commands": ["ls"], "timeout_ms": 5.0}, {"commands": ["ls"], "timeout_ms": 5}),
        ("computer", {"actions": [{**CLICK, "keys": None, "x": 3.0}]}, {"actions": [CLICK]}),
    ],
)
def test_what_a_model_leaves_out_or_adds_does_no_harm(name: str, written: Any, kept: Any) -> None:
    item = answered(wrote(name, written))["output"][0]

    assert json.loads(CALLS[item["type"]].arguments(item)) == kept


@pytest.mark.parametrize("name", ASKED)
def test_withheld_call_holds_nothing_that_the_model_wrote_and_still_pairs(name: str) -> None:
    kind, _, arguments, _ = ASKED[name]
    item = answered(wrote(name, arguments))["output"][0]
    shown = redacted_body(item, shown=False)
    left = [place for place in kind.places(item) if value_at(shown, place)]

    assert (shown["id"], shown["call_id"], shown["type"]) == (item["id"], "call_0", kind.item_type)
    assert left == []
    assert build_prompt(None, [PromptItem(shown, note=WITHHELD)]).messages[1]["content"] == WITHHELD


@pytest.mark.parametrize("kind", RETURNED)
def test_withheld_output_holds_nothing_that_the_client_said(kind: str) -> None:
    members, _, withheld = RETURNED[kind]
    shown = redacted_body({"type": kind, "id": "o", "call_id": "c", **members}, shown=False)

    assert [place for place in OUTPUTS[kind].output_places(shown) if value_at(shown, place) != WITHHELD] == []
    assert OUTPUTS[kind].output_parts(shown) == ()
    assert withheld in OUTPUTS[kind].output_text(shown)


@pytest.mark.parametrize("kind", RETURNED)
def test_output_is_decided_as_the_result_of_its_tool(kind: str) -> None:
    (result,) = sent_results([{"type": kind, "call_id": "c", **RETURNED[kind][0]}])
    decided: Any = result

    name = kind.removesuffix("_call_output")
    assert (decided["tool"]["type"], decided["tool"]["name"], decided["tool"]["server_label"]) == (
        name,
        name,
        "",
    )
    assert decided["tool"]["annotations"]["destructive"] is True
    assert decided["result"]["size"] == len(RETURNED[kind][1])


def test_tool_that_policy_hides_is_not_offered_and_a_call_of_it_is_answered_like_any_other() -> None:
    asked = request(client_tools=(tool("shell"), tool("apply_patch")))
    book = Playbook(asked)
    book.tell(Requested(asked, ResponseId("resp_1"), "acme", "alice"))
    book.tell(authorized(asked, hidden=frozenset({"shell"})), ModelOpened())
    book.tell(CallOpened(0, "c", "shell"), ArgumentsWritten(0, '{"commands": ["ls"]}'))
    book.tell(ModelEnded("tool_calls", Usage()))
    sent = book.of(CallModel)

    assert [one["function"]["name"] for one in sent[0].payload["tools"]] == ["apply_patch"]
    assert "There is no such tool" in sent[1].payload["messages"][-1]["content"]


def value_at(item: Any, place: Any) -> Any:
    for step in place:
        try:
            item = item[step]
        except (KeyError, IndexError):
            return None
    return item
