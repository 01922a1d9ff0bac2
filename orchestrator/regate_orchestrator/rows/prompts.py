"""Rows of prompts and their versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regate_orchestrator.values import JsonObject, PromptId


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt. Its templates are its versions, numbered from 1 without gaps up to `latest_version`;
    none is ever changed or taken away.
    """

    id: PromptId
    name: str
    created_at: int
    metadata: Mapping[str, str]
    stamp: JsonObject
    default_version: int = 1
    """The version that a request gets which names none."""
    latest_version: int = 1


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """One template of a prompt, in the API's shape, and the names of the variables in it
    (`prompt_templates.py`).
    """

    prompt_id: PromptId
    version: int
    created_at: int
    created_by: str
    template: JsonObject
    variables: tuple[str, ...]
