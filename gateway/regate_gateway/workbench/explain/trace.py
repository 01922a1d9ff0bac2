"""Why a rule was true or not: the trace of `opa eval`, read as rules that held and conditions that did not,
each with file and line.

Evaluated without rule indexing, which would leave out whatever it need not try. The input holds metadata
only. What is explained, and how it is printed, is in `explanation.py` and `command.py`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.values import Json, JsonObject

_DEADLINE_SECONDS: Final = 20.0
_DEEPEST: Final = 12
_REFERENCE: Final = re.compile(r"\binput(?:\.[A-Za-z_]\w*)+")
_BINDING: Final = re.compile(r"\bsome\s+(?:\w+\s*,\s*)?(\w+)\s+in\s+(input(?:\.[A-Za-z_]\w*)+)")
_ABSENT: Final = "(absent)"
EVAL: Final = (
    "eval",
    "--disable-indexing",
    "--disable-early-exit",
    "--strict-builtin-errors",
    "--ignore",
    "*_test.rego",
    "--stdin-input",
)
"""How a rule is evaluated for an explanation, and in the command that is printed with it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One expression of a rule, with the values of what it mentions. `because` are the rules that it
    rests on.
    """

    at: str
    text: str
    values: Mapping[str, Json]
    because: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One body of a rule that was tried. `condition` is the first that did not hold; of a body that
    held, `because` are the rules it used.
    """

    rule: str
    at: str
    held: bool
    condition: Condition | None
    values: Mapping[str, Json]
    because: tuple[Attempt, ...]


@dataclass(slots=True)
class _Expression:
    row: int
    column: int
    negated: bool
    reference: str


@dataclass(slots=True)
class _Frame:
    """One query of the evaluation: a rule's body, or what stands under a `not`. `name` is empty for
    the latter.
    """

    name: str
    file: str
    row: int
    default: bool
    entered_from: int
    current_row: int = 0
    last_row: int = 0
    held: bool = False
    failed: dict[int, _Expression] = field(default_factory=dict)
    below: list[_Frame] = field(default_factory=list)


class Tracer:
    """Evaluates rules of one policy directory with the `opa` program, and reads the traces."""

    def __init__(self, opa: Path, directory: Path) -> None:
        self._opa = opa
        self._directory = directory

    async def attempts(self, rule: str, document: JsonObject, *, shown: JsonObject) -> tuple[Attempt, ...]:
        """Return how each body of the rule (a path below `data`) fared; values are taken from `shown`, the
        input as it may be printed.

        Raises `PolicyUnavailable` when `opa` gives no trace.
        """
        query = f"data.{rule.replace('/', '.')}"
        command = (*EVAL, "--explain", "full", "--format", "json", "--bundle", ".", query)
        events = await asyncio.to_thread(json.loads, await self._run(command, json.dumps(document).encode()))
        return await asyncio.to_thread(
            lambda: _Trace(events["explanation"], self._directory, shown).attempts(query)
        )

    async def _run(self, arguments: tuple[str, ...], given: bytes) -> bytes:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                str(self._opa), *arguments, cwd=self._directory, stdin=pipe, stdout=pipe, stderr=pipe, env={}
            )
        except OSError as error:
            raise PolicyUnavailable(f"opa eval did not run: {error}") from error
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                out, err = await process.communicate(given)
        except TimeoutError as error:
            raise PolicyUnavailable(f"opa eval did not end within {_DEADLINE_SECONDS} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise PolicyUnavailable(f"opa eval: {(err or out).decode(errors='replace').strip()}")
        return out


class _Trace:
    """The events of one evaluation, as frames."""

    def __init__(self, events: list[dict[str, Any]], directory: Path, shown: JsonObject) -> None:
        self._directory = directory
        self._shown = shown
        self._sources: dict[str, list[str]] = {}
        self._frames: dict[int, _Frame] = {}
        for event in events:
            self._read(event)

    def attempts(self, rule: str) -> tuple[Attempt, ...]:
        """Return the bodies of the rule that the query itself asked for."""
        return tuple(self._attempt(frame, _DEEPEST) for frame in self._named.get(rule, []))

    def _read(self, event: Mapping[str, Any]) -> None:
        node, place, query = event["Node"], event["Location"], event["QueryID"]
        is_rule = isinstance(node, dict) and "head" in node
        frame = self._frames.get(query)
        match event["Op"]:
            case "Enter" if frame is None:
                parent = self._frames.get(event["ParentID"])
                self._frames[query] = entered = _Frame(
                    name=f"{self._package(place['file'])}.{_head_name(node)}" if is_rule else "",
                    file=place["file"],
                    row=place["row"],
                    default=bool(is_rule and node.get("default")),
                    entered_from=parent.current_row if parent is not None else 0,
                )
                if parent is not None:
                    parent.below.append(entered)
            case "Eval" | "Redo" if frame is not None and not is_rule and isinstance(node, dict):
                frame.current_row = place["row"]
                frame.last_row = max(frame.last_row, place["row"])
            case "Exit" if frame is not None:
                frame.held = True
            case "Fail" if frame is not None and isinstance(node, dict):
                expression = _Expression(
                    place["row"], place["col"], bool(node.get("negated")), _reference(node)
                )
                frame.failed[int(node.get("index", 0))] = expression

    @cached_property
    def _named(self) -> dict[str, list[_Frame]]:
        named: dict[str, list[_Frame]] = {}
        for frame in self._frames.values():
            if frame.name and not frame.default:
                named.setdefault(frame.name, []).append(frame)
        return named

    def _attempt(self, frame: _Frame, depth: int) -> Attempt:
        at = f"{frame.file}:{frame.row}"
        if frame.held:
            used = [child for child in self._rules_below(frame, None) if child.held] if depth else []
            values = self._values("\n".join(self._rows(frame.file, frame.row, frame.last_row)))
            return Attempt(
                frame.name, at, True, None, values, tuple(self._attempt(child, depth - 1) for child in used)
            )
        failed = frame.failed[max(frame.failed)] if frame.failed else None
        condition = None if failed is None else self._condition(frame, failed, depth)
        return Attempt(frame.name, at, False, condition, {}, ())

    def _condition(self, frame: _Frame, failed: _Expression, depth: int) -> Condition:
        line = "".join(self._rows(frame.file, failed.row, failed.row))
        text = (
            line[failed.column - 1 :].strip()
            if line.strip().startswith(frame.name.rpartition(".")[2])
            else line.strip()
        )
        rules = list(self._rules_below(frame, failed.row)) or self._named.get(failed.reference, [])
        # Under `not` what held is to blame, otherwise what did not.
        blamed = [rule for rule in rules if rule.held == failed.negated] if depth else []
        values = self._values(text) | self._bound_values(text, self._rows(frame.file, frame.row, failed.row))
        return Condition(
            f"{frame.file}:{failed.row}",
            text,
            values,
            tuple(self._attempt(rule, depth - 1) for rule in blamed),
        )

    def _rules_below(self, frame: _Frame, row: int | None) -> Iterator[_Frame]:
        """Yield the rules tried by the frame (at this row, or at any), looking through what stands
        under a `not`.
        """
        for child in frame.below:
            if child.default or (row is not None and child.entered_from != row):
                continue
            if child.name:
                yield child
            elif row is not None:
                yield from self._rules_below(child, None)

    def _package(self, file: str) -> str:
        package = next((line.split()[1] for line in self._source(file) if line.startswith("package ")), "")
        return f"data.{package}"

    def _rows(self, file: str, first: int, last: int) -> list[str]:
        return self._source(file)[first - 1 : max(first, last)]

    def _source(self, file: str) -> list[str]:
        if file not in self._sources:
            path = self._directory / file
            self._sources[file] = (
                path.read_text(encoding="utf-8").splitlines() if file and path.is_file() else []
            )
        return self._sources[file]

    def _values(self, text: str) -> dict[str, Json]:
        return {
            reference: _at(self._shown, reference) for reference in dict.fromkeys(_REFERENCE.findall(text))
        }

    def _bound_values(self, text: str, rows: list[str]) -> dict[str, Json]:
        """Return the values of what the variables in the text run over (`some team in input.chunk.teams`)."""
        pairs = (pair for row in rows for pair in _BINDING.findall(row))
        return {
            source: _at(self._shown, source)
            for name, source in pairs
            if re.search(rf"\b{re.escape(name)}\b", text)
        }


def _head_name(rule: Mapping[str, Any]) -> str:
    head = rule["head"]
    name: str = head["ref"][0]["value"] if head.get("ref") else head["name"]
    return name


def _reference(expression: Mapping[str, Any]) -> str:
    """Return the rule that an expression is nothing but a mention of, e.g. `data.regate.chunk.granted`."""
    terms = expression.get("terms")
    if not isinstance(terms, dict) or terms.get("type") != "ref":
        return ""
    return ".".join(str(part.get("value")) for part in terms["value"])


def _at(document: Json, reference: str) -> Json:
    value = document
    for name in reference.split(".")[1:]:
        if not isinstance(value, Mapping) or name not in value:
            return _ABSENT
        value = value[name]
    return value
