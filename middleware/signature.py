"""An actor's signature as the schema of its arguments."""

import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Annotated, Any, NotRequired

from pydantic import AliasChoices, AliasPath, ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation
from pydantic.fields import FieldInfo
from pydantic_core import SchemaValidator, from_json, to_json
from typing_extensions import TypedDict

from errors import InvalidActor, InvalidPayload, Refusal

REMEDY = "or declare the actor with validate=False"
#: Types that are the same before and after JSON.
PLAIN = frozenset({str, int, float, bool, type(None)})
#: Characters of a value in an error.
LONGEST_SHOWN = 80
#: What pydantic writes in the place of a secret.
MASK = "**********"

_Parameter = inspect.Parameter


class Signature:
    """Validates arguments against the annotations of a function; what is not annotated takes anything.

    Arguments are validated as JSON, before they are sent as on the worker: so what one side accepts the other does
    too, and a strict model that demands a ``datetime`` takes its JSON form.  Thread-safe.

    Parameters:
      actor: the name of the actor, for errors.

    Raises ``InvalidActor`` when an annotation cannot be resolved.  Making one builds no validator: the first use does.
    """

    def __init__(self, actor: str, fn: Callable[..., Any]) -> None:
        self.actor = actor
        try:
            parameters = list(inspect.signature(fn).parameters.values())
        except (TypeError, ValueError) as error:
            raise InvalidActor(
                f"actor {actor!r}: its signature cannot be read ({error}); declare it with validate=False"
            ) from error
        self._types = dict(_annotated(actor, fn, parameters))
        kinds = [(parameter.name, parameter.kind) for parameter in parameters]
        self._positional = tuple(
            name for name, kind in kinds if kind in (_Parameter.POSITIONAL_ONLY, _Parameter.POSITIONAL_OR_KEYWORD)
        )
        self._by_name = frozenset(
            name for name, kind in kinds if kind in (_Parameter.POSITIONAL_OR_KEYWORD, _Parameter.KEYWORD_ONLY)
        )
        self._aliases = frozenset(alias for name in self._by_name for alias in _aliases(self._types.get(name)))
        self._rest = next((name for name, kind in kinds if kind is _Parameter.VAR_POSITIONAL), None)
        self._others = next((name for name, kind in kinds if kind is _Parameter.VAR_KEYWORD), None)
        self._variable = {self._rest, self._others}
        self._required = frozenset(
            parameter.name
            for parameter in parameters
            if parameter.default is _Parameter.empty and parameter.name not in self._variable
        )
        self._untyped = frozenset(name for name, _ in kinds) - self._types.keys()
        self._untyped_required = [name for name in self._required if name in self._untyped]

    def written(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, refuse: bool = True
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as a message may carry them: annotated ones are written as JSON, the others left alone.

        Raises ``InvalidPayload`` with everything that does not fit, if ``refuse``.
        """
        values, problems = self._bound(args, kwargs)
        given = self._annotated_of(values)
        raw = self._json(given, problems)
        if refuse:
            if MASK.encode() in raw and f"('{MASK}')" in repr(given):
                problems.append("a pydantic secret is written as asterisks; pass a reference to it")
            self._validated(given, raw, problems)
            if problems:
                raise InvalidPayload(self.actor, problems)
        elif problems:
            return args, kwargs
        if all(value.__class__ in PLAIN for value in given.values()):
            return args, kwargs
        plain = from_json(raw)
        if plain == given:  # a copy of the message costs more than that
            return args, kwargs
        return self._shaped({**values, **plain}, len(args))

    def typed(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a message as the annotations have them.

        Raises ``InvalidPayload`` with everything that does not fit.
        """
        values, problems = self._bound(args, kwargs)
        given = self._annotated_of(values)
        validated = self._validated(given, self._json(given, problems), problems)
        if problems:
            raise InvalidPayload(self.actor, problems)
        for name in given:
            del values[name]  # it may be an alias
        return self._shaped(values | validated, len(args))

    @functools.cached_property
    def validator(self) -> SchemaValidator | None:
        """Pydantic's validator of all annotated arguments; None when there are none.  Built at the first use.

        Raises ``InvalidActor`` when pydantic cannot validate a type.
        """
        if not self._types:
            return None
        fields = {
            name: kind if name in self._required else NotRequired[kind]  # the function's own default will do
            for name, kind in self._types.items()
        }
        make: Any = TypedDict
        schema = make(self.actor, fields)
        # A renamed parameter's own name stays valid beside its aliases.
        schema.__pydantic_config__ = ConfigDict(validate_by_name=True, validate_by_alias=True)
        try:
            validator = TypeAdapter(schema).validator
        except (PydanticUserError, PydanticUndefinedAnnotation) as error:
            name = next((name for name, kind in self._types.items() if not _valid(kind)), "?")
            text = str(error).partition("\n")[0].removesuffix(".")
            raise InvalidActor(
                f"actor {self.actor!r}, parameter {name!r}: pydantic cannot validate its annotation ({text}); "
                f"annotate it with a type that can be written as JSON, {REMEDY}"
            ) from error
        assert isinstance(validator, SchemaValidator)
        return validator

    def _bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The arguments by parameter (or alias), and why some of them have none."""
        problems: list[str] = []
        count = len(self._positional)
        values: dict[str, Any] = dict(zip(self._positional, args, strict=False))
        if len(args) > count:
            if self._rest is not None:
                values[self._rest] = args[count:]
            else:
                problems.append(f"takes {count} positional arguments, got {len(args)}")
        others: dict[str, Any] = {}
        for name, value in kwargs.items():
            if name in self._by_name and name in values:
                problems.append(f"{name}: given by position and by name")
            elif name in self._by_name or name in self._aliases:
                values[name] = value
            elif self._others is not None:
                others[name] = value
            else:
                problems.append(f"{name}: no such parameter, got {_shown(value)}")
        if self._others is not None:
            values[self._others] = others
        problems += [f"{name}: missing" for name in self._untyped_required if name not in values]
        return values, problems

    def _annotated_of(self, values: dict[str, Any]) -> dict[str, Any]:
        if not self._untyped:
            return dict(values)
        return {name: value for name, value in values.items() if name not in self._untyped}

    def _json(self, given: dict[str, Any], problems: list[str]) -> bytes:
        """The values as a JSON object; those that cannot be written are taken out of ``given``."""
        if not given:
            return b"{}"
        try:
            return to_json(given, round_trip=True)
        except Exception:
            for name, value in list(given.items()):
                try:
                    to_json(value, round_trip=True)
                except Exception as error:
                    del given[name]
                    text = str(error).removeprefix("Error serializing to JSON: ")
                    problems.append(f"{name}: cannot be written as JSON ({text}), got {_shown(value)}")
            return to_json(given, round_trip=True)

    def _validated(self, given: Mapping[str, Any], raw: bytes, problems: list[str]) -> dict[str, Any]:
        if self.validator is None:
            return {}
        try:
            validated: dict[str, Any] = self.validator.validate_json(raw)
        except ValidationError as error:
            unwritten = {problem.partition(":")[0] for problem in problems}
            problems += [problem for problem in self._worded(error) if problem.partition(":")[0] not in unwritten]
            return {}
        except Exception as error:  # of a validator of the user's own: not known to be the payload's fault
            raise Refusal(
                f"{self.actor}: its arguments could not be validated: {type(error).__name__}: {error}"
            ) from error
        return validated

    def _worded(self, error: ValidationError) -> Iterator[str]:
        for item in error.errors(include_url=False, include_context=False):
            first, *below = item["loc"] or ("?",)
            path = str(first) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in below)
            if item["type"] == "missing":
                kind = self._types.get(str(first)) if not below else None
                yield f"{path}: missing" + (f", expected {_named(kind)}" if kind is not None else "")
                continue
            text = item["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ")
            yield f"{path}: {text}, got {_shown(item['input'])}"

    def _shaped(self, values: dict[str, Any], count: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The values as arguments, as many of them by position as came by position."""
        args = [values.pop(name) for name in self._positional[:count]]
        if self._rest is not None:
            args += values.pop(self._rest, ())
        if self._others is not None:
            values |= values.pop(self._others)
        return tuple(args), values


def _annotated(actor: str, fn: Callable[..., Any], parameters: list[inspect.Parameter]) -> Iterator[tuple[str, Any]]:
    """The resolved types of the parameters that have one."""
    names = getattr(inspect.unwrap(fn), "__globals__", {})
    for parameter in parameters:
        if parameter.annotation in (_Parameter.empty, Any, object):
            continue
        holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
        try:
            kind = typing.get_type_hints(holder, names, include_extras=True)[parameter.name]
        except Exception as error:
            raise InvalidActor(
                f"actor {actor!r}, parameter {parameter.name!r}: its annotation {parameter.annotation!r} cannot be "
                f"resolved ({error}); define or import what it names above the actor, {REMEDY}"
            ) from error
        if kind in (Any, object) or isinstance(kind, (typing.ParamSpecArgs, typing.ParamSpecKwargs)):
            continue
        if typing.get_origin(kind) is typing.Unpack:
            [kind] = typing.get_args(kind)
        elif parameter.kind is _Parameter.VAR_POSITIONAL:
            kind = tuple[kind, ...]  # type: ignore[valid-type]
        elif parameter.kind is _Parameter.VAR_KEYWORD:
            kind = dict[str, kind]  # type: ignore[valid-type]
        yield parameter.name, kind


def _aliases(kind: Any) -> Iterator[str]:
    """The other names by which an argument may be given."""
    for field in getattr(kind, "__metadata__", ()):
        alias = field.validation_alias if isinstance(field, FieldInfo) else None
        for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            if choice is not None:
                yield str(choice.path[0]) if isinstance(choice, AliasPath) else choice


def _valid(kind: Any) -> bool:
    try:
        TypeAdapter(kind)
    except (PydanticUserError, PydanticUndefinedAnnotation):
        return False
    return True


def _named(kind: Any) -> str:
    """A type as its annotation names it."""
    return inspect.formatannotation(kind.__origin__ if typing.get_origin(kind) is Annotated else kind)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"
