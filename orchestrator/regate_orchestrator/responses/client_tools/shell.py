"""`shell` and `local_shell`: commands that the client runs on a machine of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, cast

from regate_orchestrator.guards.places import Place, texts_in
from regate_orchestrator.responses.arguments import fitted
from regate_orchestrator.responses.client_tools.kind import WITHHELD, ClientKind
from regate_orchestrator.responses.tools.tool import Told
from regate_orchestrator.values import Json, JsonObject

SHELL_ACTION: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "commands": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "description": "The commands, each a line for the shell; they run in this order.",
        },
        "timeout_ms": {"type": "integer", "description": "How long the commands may take, in milliseconds."},
        "max_output_length": {
            "type": "integer",
            "description": "How many characters of output are wanted at most.",
        },
    },
    "required": ["commands"],
    "additionalProperties": False,
}
"""What a model says to run commands in a shell."""
EXEC_ACTION: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "command": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "description": "The program and its arguments, such as ['ls', '-l'].",
        },
        "env": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Environment variables to set.",
        },
        "working_directory": {"type": "string", "description": "The directory to run it in."},
        "timeout_ms": {"type": "integer", "description": "How long it may take, in milliseconds."},
        "user": {"type": "string", "description": "The user to run it as."},
    },
    "required": ["command"],
    "additionalProperties": False,
}
"""What a model says to run a program."""


class _Shell(ClientKind):
    type = "shell"
    item_type = "shell_call"
    output_type = "shell_call_output"
    id_prefix = "sh_"
    output_prefix = "sho_"

    def members(self, written: str) -> JsonObject | None:
        action = fitted(SHELL_ACTION, written)
        if action is None:
            return None
        return {
            "action": {"timeout_ms": None, "max_output_length": None, **action},
            "environment": {"type": "local"},
        }

    def arguments(self, item: JsonObject) -> str:
        return _said(item)

    def told(self, item: JsonObject) -> Told:
        commands = cast("Sequence[Json]", _action(item)["commands"])
        events: list[tuple[str, JsonObject]] = []
        for index, command in enumerate(commands):
            at: JsonObject = {"command_index": index}
            events += [
                ("shell_call_command.added", {**at, "command": ""}),
                ("shell_call_command.delta", {**at, "delta": command}),
                ("shell_call_command.done", {**at, "command": command}),
            ]
        return events

    def empty(self, item: JsonObject) -> JsonObject:
        return {**item, "action": {**_action(item), "commands": []}}

    def places(self, item: JsonObject) -> Sequence[Place]:
        return texts_in(_action(item)["commands"], ("action", "commands"))

    def output_text(self, item: JsonObject) -> str:
        chunks = cast("Sequence[Mapping[str, Json]]", item["output"])
        return "\n".join(_chunk_text(chunk) for chunk in chunks)

    def output_places(self, item: JsonObject) -> Sequence[Place]:
        places = texts_in(item["output"], ("output",))
        return [place for place in places if place[-1] in ("stdout", "stderr")]

    def withheld_output(self, item: JsonObject) -> JsonObject:
        return {**item, "output": []}


class _LocalShell(ClientKind):
    type = "local_shell"
    item_type = "local_shell_call"
    output_type = "local_shell_call_output"
    id_prefix = "lsh_"
    output_prefix = "lsho_"

    def members(self, written: str) -> JsonObject | None:
        action = fitted(EXEC_ACTION, written)
        if action is None:
            return None
        absent: JsonObject = {"env": {}, "working_directory": None, "timeout_ms": None, "user": None}
        return {"action": {"type": "exec", **absent, **action}}

    def arguments(self, item: JsonObject) -> str:
        return _said(item)

    def told(self, item: JsonObject) -> Told:
        return ()

    def empty(self, item: JsonObject) -> JsonObject:
        return {**item, "action": {**_action(item), "command": [], "env": {}}}

    def places(self, item: JsonObject) -> Sequence[Place]:
        action = _action(item)
        return [place for name in ("command", "env") for place in texts_in(action[name], ("action", name))]

    def output_text(self, item: JsonObject) -> str:
        return cast("str", item["output"])

    def withheld_output(self, item: JsonObject) -> JsonObject:
        return {**item, "output": WITHHELD}


SHELL: Final[ClientKind] = _Shell()
LOCAL_SHELL: Final[ClientKind] = _LocalShell()


def _action(item: JsonObject) -> JsonObject:
    return cast("JsonObject", item["action"])


def _said(item: JsonObject) -> str:
    said = {name: value for name, value in _action(item).items() if name != "type" and value is not None}
    return json.dumps(said, ensure_ascii=False)


def _chunk_text(chunk: Mapping[str, Json]) -> str:
    """Return what one command wrote, and how it ended."""
    outcome = cast("Mapping[str, Json]", chunk["outcome"])
    code = outcome.get("exit_code")
    exited = "[exited]" if code is None else f"[exit code {code}]"
    ended = "[timed out]" if outcome["type"] == "timeout" else exited
    errors = f"[stderr]\n{chunk['stderr']}" if chunk["stderr"] else ""
    return "\n".join(filter(None, (str(chunk["stdout"]), errors, ended)))
