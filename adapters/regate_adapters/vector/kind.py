"""What a kind of vector engine is: one registered value that knows the kind's settings, and how an engine of
it is checked, examined, opened, shown a filter and proven.

The kinds themselves are `<engine>/kind.py`, and `registry.py` lists them. A kind is imported whenever
settings are read, so its module must import no client library: each method imports what it needs.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, Generic, Literal, TypeAlias, TypeVar

from pydantic import Field

from regate_adapters.settings_types import Name, Section, below_data_dir
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import VectorStore

Renderer: TypeAlias = Callable[[FilterPlan], object]
"""Renders a plan as an engine is asked it. Must raise `FilterNotExpressible` for what cannot be applied
exactly, and must do no IO.
"""


MARKED_REFUSES: Final[Mapping[str, str]] = {
    "text": "marks are whole values, so there are no string predicates",
    "string_order": "marks of strings have no order",
    "two_fields": "a mark is of one field",
}
"""What engines of marked rows (`marked/`) cannot express."""


class EngineSettings(Section):
    """One vector engine. Each kind adds settings of its own.

    A setting that names a secret's environment variable must end in `_env`; the secret is handed over by
    `Configured`.
    """

    kind: str
    on_inexpressible: Literal["deny", "gate"] = Field(
        default="deny",
        description=(
            "When the engine cannot express a policy filter: `deny` the search, or `gate`: search within "
            "the tenant and check each hit."
        ),
    )
    words: Name | None = Field(
        default=None,
        description="Another engine that keeps the words of this one's chunks, where this one cannot search "
        "by words: a `local` one for a single gateway.",
    )


class EmbeddedSettings(EngineSettings):
    """An engine inside the gateway's process, with its files in a directory."""

    path: Path = Field(
        description="Directory of an embedded engine.", json_schema_extra=below_data_dir("vector/<name>")
    )


S = TypeVar("S", bound=EngineSettings)


@dataclass(frozen=True, slots=True)
class Configured(Generic[S]):
    """An engine's settings, the setting at which they stand, and the secrets that they name, by setting."""

    settings: S
    place: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def named(self, setting: str) -> str:
        """Return the setting as messages name it, with the variable that holds its secret."""
        return f"{self.place}.{setting} ({getattr(self.settings, setting)})"


@dataclass(frozen=True, slots=True)
class Extra:
    """The optional dependency that brings a kind's client library."""

    name: str
    module: str
    what: str


class EngineKind(ABC, Generic[S]):
    """A kind of vector engine. `title` completes the sentence "the engine is …"."""

    settings: type[S]
    title: ClassVar[str]
    extra: ClassVar[Extra | None] = None
    keeps: ClassVar[bool] = True
    """Whether the vectors survive a restart, so that it can be recommended."""
    of_one_process: ClassVar[bool] = False
    """Whether it lies in one gateway's process, so that no other can use the same vectors."""
    refuses: ClassVar[Mapping[str, str]] = {}
    """What filters it cannot express, by the names that the conformance suite has for them, and why."""
    by_words: ClassVar[bool] = False
    """Whether it can search by words."""
    server: ClassVar[str | None] = None
    """What kind of server a proof needs; None for an engine inside this process."""

    @property
    def name(self) -> str:
        """Return the value of the setting `kind`."""
        return str(self.settings.model_fields["kind"].default)

    @property
    def is_installed(self) -> bool:
        """Return whether the client library is there."""
        return self.extra is None or importlib.util.find_spec(self.extra.module) is not None

    def require_installed(self, place: str) -> None:
        """Raise `ConfigurationError` unless the client library is there."""
        if self.extra is not None and not self.is_installed:
            raise ConfigurationError(
                f"{place}: {self.name} needs {self.extra.what}: install regate[{self.extra.name}]"
            )

    @abstractmethod
    def check(self, configured: Configured[S]) -> None:
        """Raise `ConfigurationError` for settings that no engine could be opened with. Must do no IO."""

    @abstractmethod
    async def examine(self, configured: Configured[S]) -> str:
        """Return what is there, in a few words. Must change nothing; raises a `RegateError` that says what is
        wrong.
        """

    @abstractmethod
    def open(self, configured: Configured[S], schema: RowSchema) -> AbstractAsyncContextManager[VectorStore]:
        """Return the engine as a context that yields its store. Entering raises `ConfigurationError` when it
        cannot be used.
        """

    @abstractmethod
    def renderer(self, schema: RowSchema) -> Renderer:
        """Return what renders plans for this kind. Raises `ConfigurationError` for fields that it cannot
        hold.
        """

    @abstractmethod
    def proof(self, folder: Path, url: str) -> Configured[S] | None:
        """Return how a proof opens it, with files below the folder, or on the server at the URL; None where
        the proof of another kind is this one's too.
        """
