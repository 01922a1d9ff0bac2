"""Where settings come from, and how they are shown: `regate.yaml`, then `REGATE_…`, then the command line,
each overriding the one before.

Not what may be set (`settings.py`). Every fault is a `ConfigurationError` that names the setting, never its
value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource
from pydantic_settings.exceptions import SettingsError

from regate_adapters.vector.kind import EngineSettings
from regate_adapters.vector.registry import DEFAULT, KINDS
from regate_gateway.config.settings import Settings
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.spelling import nearest

DEFAULT_FILE: Final = Path("regate.yaml")
_MAX_BYTES: Final = 1024 * 1024
_OURS: Final = frozenset({"REGATE_CONFIG", "REGATE_TOKEN", "REGATE_URL"})
_KUBERNETES: Final = re.compile(r"REGATE_(SERVICE_.*|PORT(_.*)?)")
"""Kubernetes puts such variables into every pod of a namespace that has a service named `regate`; they
are not ours.
"""


def load_settings(path: Path | None = None, *, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Return the effective settings. Raises `ConfigurationError`.

    `path` None means `regate.yaml` in the working directory, if there is one; a file that is named must
    exist. `overrides` are nested like the file, and come from the command line.
    """
    merged = _merged(_merged(_read_file(path), _read_environment()), overrides or {})
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise ConfigurationError(
            "\n".join(dict.fromkeys(_explain(detail) for detail in error.errors()))
        ) from None
    _refuse_unknown_variables(settings)
    return settings


def file_in_force(path: Path | None) -> Path | None:
    """Return the file that `load_settings` reads for this path, or None when it reads none."""
    return path if path is not None else DEFAULT_FILE if DEFAULT_FILE.exists() else None


def show(settings: Settings) -> dict[str, Any]:
    """Return the effective settings as plain values. Safe to print: settings name the places of
    secrets and hold none.
    """
    shown: dict[str, Any] = settings.model_dump(mode="json")
    return shown


@dataclass(frozen=True, slots=True)
class SettingEntry:
    """One row of the reference: the setting's path, the values it takes, its default, and what it means."""

    path: str
    values: str
    default: str
    meaning: str


def reference() -> list[SettingEntry]:
    """Return every setting there is, in the order in which they are declared."""
    return list(_entries((Settings,), ""))


def reference_table() -> str:
    """Return the reference as the Markdown table that `docs/settings.md` holds."""
    rows = [
        f"| `{entry.path}` | {entry.values} | {entry.default} | {entry.meaning} |" for entry in reference()
    ]
    return "\n".join(["| setting | values | default | meaning |", "| --- | --- | --- | --- |", *rows])


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key that is written twice is an error: the second would silently undo the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1}, key=str)
        if twice:
            raise ConfigurationError(f"{twice[0]}: written twice (line {node.start_mark.line + 1} and below)")
        return super().construct_mapping(node, deep=deep)


def _read_file(path: Path | None) -> dict[str, Any]:
    path = file_in_force(path)
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode("utf-8")
        found = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader, made stricter
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigurationError(f"{path}{where}: not valid YAML") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path}: must hold settings by name, not a {type(found).__name__}")
    return found


def _read_environment() -> dict[str, Any]:
    try:
        return EnvSettingsSource(Settings)()
    except SettingsError as error:
        field = re.search(r'field "(\w+)"', str(error))
        name = f"REGATE_{field.group(1).upper()}…" if field else "an environment variable"
        raise ConfigurationError(f"{name}: a list or a group must be written as JSON") from error


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        result[key] = (
            _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
        )
    return result


def _refuse_unknown_variables(settings: Settings) -> None:
    """A misspelt variable would otherwise be ignored in silence. Variables that settings name as
    places of secrets are known.
    """
    named = {value for value in _leaves(show(settings)) if isinstance(value, str)}
    for variable in sorted(os.environ):
        if not variable.startswith("REGATE_") or variable in _OURS | named or _KUBERNETES.fullmatch(variable):
            continue
        key = variable.removeprefix("REGATE_").split("__")[0].lower()
        if key not in Settings.model_fields:
            raise ConfigurationError(
                f"{variable}: there is no setting {key!r}{_suggestion(key, list(Settings.model_fields))}"
            )


def _leaves(value: Any) -> Iterator[Any]:
    match value:
        case dict():
            for inner in value.values():
                yield from _leaves(inner)
        case list():
            for inner in value:
                yield from _leaves(inner)
        case _:
            yield value


def _explain(detail: ErrorDetails) -> str:
    path, beside = _place(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{path}: there is no such setting{_suggestion(str(detail['loc'][-1]), beside)}"
    if detail["type"] == "missing":
        return f"{path}: must be set"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{path}: {message}" if path else message


def _place(location: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """Return the path as an operator writes it, and the settings that may stand beside its last part. Of a
    group of several kinds pydantic names the kind as well, which is no key.
    """
    models: tuple[type[BaseModel], ...] = (Settings,)
    path, beside = [], models
    for part in location:
        if len(models) > 1 and isinstance(part, str) and (chosen := _of_kind(models, part)):
            models = chosen
            continue
        path.append(str(part))
        beside = models
        found = next((one.model_fields[part] for one in models if part in one.model_fields), None)
        models = models if found is None else _models_in(found.annotation)
    return ".".join(path), [name for name, _ in _fields(beside)]


def _of_kind(models: tuple[type[BaseModel], ...], kind: str) -> tuple[type[BaseModel], ...]:
    return tuple(one for one in models if kind in get_args(one.model_fields["kind"].annotation))


def _suggestion(key: str, known: list[str]) -> str:
    near = nearest(key, known)
    return "" if near is None else f"; did you mean {near!r}?"


def _entries(models: tuple[type[BaseModel], ...], prefix: str) -> Iterator[SettingEntry]:
    for name, field in _fields(models):
        inner = _models_in(field.annotation)
        suffix = _container(field.annotation)
        if not inner or suffix or field.description:
            yield SettingEntry(prefix + name, _values(field), _default(field), field.description or "")
        if inner:
            yield from _entries(inner, f"{prefix}{name}{suffix}.")
            if not inner[0].model_fields:
                meaning = " ".join((inner[0].__doc__ or "").split())
                yield SettingEntry(prefix + name, "(no keys)", "–", meaning)


def _fields(models: tuple[type[BaseModel], ...]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the settings of a section: of a vector engine those of every kind, before those that all have; of
    several kinds those of each, told once where they mean the same.
    """
    if models == (EngineSettings,):
        yield from _engine_fields()
        return
    told = set()
    for model in models:
        for name, own in model.model_fields.items():
            field = _kinds_of(models) if name == "kind" and len(models) > 1 else own
            if (name, field.description) not in told:
                told.add((name, field.description))
                yield name, field


def _kinds_of(models: tuple[type[BaseModel], ...]) -> FieldInfo:
    fields = [model.model_fields["kind"] for model in models]
    kinds = tuple(kind for field in fields for kind in get_args(field.annotation))
    merged = FieldInfo.from_annotation(Literal[kinds])  # type: ignore[arg-type]  # the values it takes
    meanings = [str(field.description).rstrip(".") for field in fields]
    merged.description = f"What it verifies: {', '.join(meanings[:-1])}, or {meanings[-1]}."
    return merged


def _engine_fields() -> Iterator[tuple[str, FieldInfo]]:
    titles = [kind.title for kind in KINDS.values()]
    kinds = FieldInfo.from_annotation(Literal[tuple(KINDS)])  # type: ignore[arg-type]  # the values it takes
    kinds.default, kinds.description = DEFAULT.name, f"The engine: {', '.join(titles[:-1])}, or {titles[-1]}."
    common, told = EngineSettings.model_fields, set()
    yield "kind", kinds
    for kind in KINDS.values():
        for name, field in kind.settings.model_fields.items():
            if name not in common and (name, field.description) not in told:
                told.add((name, field.description))
                optional = copy(field)  # in a table of all kinds: its own kind may require it
                optional.default = None
                yield name, optional
    yield from ((name, field) for name, field in common.items() if name != "kind")


def _models_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Return the sections inside an annotation such as `Jwt | None`, `tuple[Upstream, ...]` or
    `dict[Name, Store]`: one, or one for each kind.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(found for inner in get_args(annotation) for found in _models_in(inner))


def _container(annotation: Any) -> str:
    if not _models_in(annotation):
        return ""
    origin = get_origin(annotation)
    return "[]" if origin is tuple else ".<name>" if origin is dict else ""


def _values(field: FieldInfo) -> str:
    annotation = field.annotation
    if get_origin(annotation) in {Union, UnionType}:
        annotation = next(inner for inner in get_args(annotation) if inner is not type(None))
    if get_origin(annotation) is Literal:
        return " \\| ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list of groups" if _models_in(annotation) else "list"
    if _models_in(annotation):
        return "groups by name" if get_origin(annotation) is dict else "group"
    if get_origin(annotation) is dict:
        return "texts by name"
    plain: object = get_args(annotation)[0] if get_origin(annotation) else annotation
    names: dict[object, str] = {
        int: "whole number",
        float: "number",
        bool: "`true` \\| `false`",
        Path: "path",
    }
    return names.get(plain, "text")


def _default(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "default_text" in extra:
        text = str(extra["default_text"])
        return text if " " in text else f"`{text}`"
    if field.is_required():
        return "must be set"
    value = field.get_default(call_default_factory=False)
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value.value if isinstance(value, Enum) else value}`"
