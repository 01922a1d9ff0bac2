"""What requests are read with: the model that every body and query is one of, and the types of its members.

A model says once what a request may hold. Reading it and describing it (`openapi/`) both come from there.
Nothing is coerced, `null` counts as absent, and no member is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema

from regate_gateway.http.misfits import (
    MISFIT,
    NO_HINTS,
    Hint,
    misfit,
    translated,
    unknown,
    unsupported,
)
from regate_orchestrator.values import Json

_MAX_METADATA: Final = 16
_MAX_KEY: Final = 64
_MAX_VALUE: Final = 512


class RequestModel(BaseModel):
    """An object of a request."""

    # Built when first needed: a command that serves nothing does not wait for it.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)

    hints: ClassVar[Mapping[str, Hint]] = NO_HINTS
    """What to say of members that mean something elsewhere."""
    unsupported: ClassVar[tuple[str, ...]] = ()
    """Members that would change the answer and are refused by name, unless they are `false`."""
    nullable: ClassVar[frozenset[str]] = frozenset()
    """Members whose `null` says something, and does not count as absent."""
    known: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.known = frozenset(field.alias or name for name, field in cls.model_fields.items())

    @classmethod
    def read(cls, values: Json, *, path: str = "") -> Self:
        """Return the checked object. Raises `InvalidRequest` for the first thing at fault; `path` is where
        the object stands in the request.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise translated(error, path=path) from None

    @model_validator(mode="before")
    @classmethod
    def _only_known(cls, values: Any) -> Any:
        """Return the members that are there, all of which are known."""
        if not isinstance(values, dict):
            return values
        if values.keys() <= cls.known and None not in values.values():  # as nearly always
            return values
        there = {name: value for name, value in values.items() if value is not None or name in cls.nullable}
        for name in cls.unsupported:
            if there.pop(name, False) is not False:
                raise unsupported(name)
        for name in there:
            if name not in cls.known:
                raise unknown(name, cls.known.union(cls.unsupported), hints=cls.hints)
        return there


class ByType:
    """Chooses the shape of an object by its `type`.

    `text` refuses every other type, which it names by `{kind}`. `unsaid` chooses the type of an object that
    says none, which is otherwise refused.
    """

    def __init__(
        self,
        shapes: Mapping[str, str],
        text: str,
        *,
        unsaid: Callable[[Mapping[str, Json]], str] | None = None,
    ) -> None:
        self._shapes = shapes
        self._text = text
        self._unsaid = unsaid

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        context: dict[str, int | str | float] = {
            "text": self._text,
            "code": "unsupported_parameter",
            "by_type": True,
            "unsaid": self._unsaid is not None,
        }
        chosen = Discriminator(
            self._shape,
            custom_error_type=MISFIT,
            custom_error_message="{text}",
            custom_error_context=context,
        )
        return chosen.__get_pydantic_core_schema__(source, handler)

    def _shape(self, value: object) -> str | None:
        if not isinstance(value, dict):
            return None
        kind = value.get("type")
        if kind is None and self._unsaid is not None:
            kind = self._unsaid(value)
        return self._shapes.get(kind) if isinstance(kind, str) else None


def _text_or_list(value: object) -> str:
    return "(text)" if isinstance(value, str) else "(list)"


TEXT_OR_LIST: Final = Discriminator(_text_or_list)
"""Chooses between the shapes `(text)` and `(list)`: what is no text is to be a list."""


def _metadata(value: Any) -> Any:
    if isinstance(value, dict):
        if len(value) > _MAX_METADATA:
            text = (
                f"Invalid '{{place}}': too many properties. Expected at most {_MAX_METADATA}, but got "
                f"{len(value)}."
            )
            raise misfit(text, code="object_above_max_properties")
        if any(len(key) > _MAX_KEY for key in value):
            raise misfit(f"Invalid '{{place}}': a key is longer than {_MAX_KEY} characters.")
    return value


Id = Annotated[str, Field(min_length=1, max_length=256)]
"""An id, or a name by which something is found: never an empty one, which would be read as none."""

Metadata = Annotated[
    dict[str, Annotated[str, Field(max_length=_MAX_VALUE)]],
    BeforeValidator(_metadata),
    Field(
        description="Pairs of the client's own.",
        json_schema_extra={"maxProperties": _MAX_METADATA, "propertyNames": {"maxLength": _MAX_KEY}},
    ),
]
"""OpenAI's metadata: at most 16 pairs, keys of at most 64 and string values of at most 512 characters."""
