"""What requests are read with: the model that every body and query is one of, and the types of its members.

A model says once what a request may hold. Reading it and describing it (`openapi/`) both come from there.
Nothing is coerced, `null` counts as absent, and no member is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema

from regate_gateway.http.misfits import MISFIT, NO_HINTS, Hint, misfit, translated, unknown, unsupported
from regate_orchestrator.values import Json

Value = TypeVar("Value")
BUILT_LATER: Final = ConfigDict(strict=True, defer_build=True)
"""How an adapter of such a type is configured."""

MAX_METADATA: Final = 16
MAX_METADATA_KEY: Final = 64
MAX_METADATA_VALUE: Final = 512


class RequestModel(BaseModel):
    """An object of a request."""

    # Built when first needed: a command that serves nothing does not wait for it.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)

    hints: ClassVar[Mapping[str, Hint]] = NO_HINTS
    """What to say of members that mean something elsewhere."""
    unsupported: ClassVar[tuple[str, ...]] = ()
    """Members that would change the answer and are refused by name."""
    declined: ClassVar[bool | None] = None
    """What such a member may say all the same: it declines what is not supported."""
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
            found: Self = cls.__pydantic_validator__.validate_python(values)
        except ValidationError as error:
            raise translated(error, path=path) from None
        return found

    @model_validator(mode="before")
    @classmethod
    def _only_known(cls, values: Any) -> Any:
        """Return the members that are there, all of which must be known unless the model is open."""
        # Called for every object of every request
        if not isinstance(values, dict) or (None not in values.values() and cls.known.issuperset(values)):
            return values
        return _present(cls, values)


def _present(model: type[RequestModel], values: Mapping[str, Any]) -> dict[str, Any]:
    there = {name: value for name, value in values.items() if value is not None or name in model.nullable}
    for name in model.unsupported:
        if there.pop(name, model.declined) is not model.declined:
            raise unsupported(name)
    if model.model_config["extra"] == "ignore":
        return there
    for name in there:
        if name not in model.known:
            raise unknown(name, model.known.union(model.unsupported), hints=model.hints)
    return there


def read_as(adapter: TypeAdapter[Value], value: Json, *, path: str) -> Value:
    """Return the value of a type that is no model, checked; see `RequestModel.read`."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise translated(error, path=path) from None


class ByType:
    """Chooses the shape of an object by its `type`.

    `text` and `code` refuse every other type, which the text names by `{kind}`. `shape` may choose otherwise
    than by what an object says, and must return None for what is none. An object that says no type is
    refused, unless it may be `untyped`.
    """

    def __init__(
        self,
        shapes: Mapping[str, str],
        text: str,
        *,
        code: str = "unsupported_parameter",
        shape: Callable[[Any], str | None] | None = None,
        untyped: bool = False,
    ) -> None:
        self._shapes = shapes
        self._text = text
        self._code = code
        self._shape = shape
        self._untyped = untyped

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        context: dict[str, int | str | float] = {
            "text": self._text,
            "code": self._code,
            "by_type": True,
            "untyped": self._untyped,
        }
        chosen = Discriminator(
            self._shape or self._chosen,
            custom_error_type=MISFIT,
            custom_error_message="{text}",
            custom_error_context=context,
        )
        return chosen.__get_pydantic_core_schema__(source, handler)

    def _chosen(self, value: Any) -> str | None:
        kind = value.get("type") if isinstance(value, dict) else None
        return self._shapes.get(kind) if isinstance(kind, str) else None


def _text_or_list(value: object) -> str:
    return "(text)" if isinstance(value, str) else "(list)"


TEXT_OR_LIST: Final = Discriminator(_text_or_list)
"""Chooses between the shapes `(text)` and `(list)`: what is no text is to be a list."""


def _text_or_object(value: object) -> str:
    return "(text)" if isinstance(value, str) else "(object)"


TEXT_OR_OBJECT: Final = Discriminator(_text_or_object)
"""Chooses between the shapes `(text)` and `(object)`: what is no text is to be an object."""


def _metadata(value: Any) -> Any:
    if isinstance(value, dict):
        if len(value) > MAX_METADATA:
            text = (
                f"Invalid '{{place}}': too many properties. Expected at most {MAX_METADATA}, but got "
                f"{len(value)}."
            )
            raise misfit(text, code="object_above_max_properties")
        if any(len(key) > MAX_METADATA_KEY for key in value):
            raise misfit(f"Invalid '{{place}}': a key is longer than {MAX_METADATA_KEY} characters.")
    return value


Id = Annotated[str, Field(min_length=1, max_length=256)]
"""An id, or a name by which something is found: never an empty one, which would be read as none."""

Metadata = Annotated[
    dict[str, Annotated[str, Field(max_length=MAX_METADATA_VALUE)]],
    BeforeValidator(_metadata),
    Field(
        description="Pairs of the client's own.",
        json_schema_extra={"maxProperties": MAX_METADATA, "propertyNames": {"maxLength": MAX_METADATA_KEY}},
    ),
]
"""OpenAI's metadata: at most 16 pairs, keys of at most 64 and string values of at most 512 characters."""
