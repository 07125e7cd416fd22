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
from pydantic_core import SchemaSerializer, SchemaValidator, from_json, to_json
from typing_extensions import TypedDict

from errors import InvalidActor, InvalidPayload, Refusal
from middleware.secret import MARK, SEALING, marked, mentions_secret, unmarked

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
      hidden: no error shows a value.  So it is, too, where an annotation mentions a ``Secret``.

    Raises ``InvalidActor`` when an annotation cannot be resolved.  Making one builds no validator: the first use does.
    """

    def __init__(self, actor: str, fn: Callable[..., Any], *, hidden: bool = False) -> None:
        self.actor = actor
        self._hidden = hidden
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

        Secrets in them are marked (``middleware.secret.MARK``), to be sealed.

        Raises ``InvalidPayload`` with everything that does not fit, if ``refuse``.
        """
        values, problems = self._bound(args, kwargs)
        given = self._annotated_of(values)
        raw = self._json(given, problems)
        if self.secrets:
            return self._marked(args, kwargs, values, raw, problems, refuse=refuse)
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

    def _marked(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        values: dict[str, Any],
        raw: bytes,
        problems: list[str],
        *,
        refuse: bool,
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = self._annotated_of(values)
        validated = self._validated(given, raw, problems)
        if problems and not refuse:  # nobody can tell which of them are secret
            return tuple({MARK: arg} for arg in args), {name: {MARK: arg} for name, arg in kwargs.items()}
        if not problems:
            plain = from_json(raw)
            for name, serializer in self.secrets.items():
                for key in given.keys() & {name, *_aliases(self._types[name])}:
                    one = {name: validated[name]}
                    plain[key] = serializer.to_python(one, mode="json", round_trip=True, context=SEALING)[name]
            # Pydantic has written these anew, from what it read; the worker must be able to read that.
            self._validated(given, to_json(unmarked(plain)), problems)
        if problems:
            raise InvalidPayload(self.actor, problems)
        return self._shaped({**values, **plain}, len(args))

    @functools.cached_property
    def secrets(self) -> Mapping[str, SchemaSerializer]:
        """The parameters whose type mentions a ``Secret``, and what writes each.  Raises as :attr:`validator`."""
        if self._adapter is None or not mentions_secret(self._adapter.core_schema):
            return {}
        self._hidden = True
        make: Any = TypedDict  # not the bare types: an alias is a member's
        adapters = {name: TypeAdapter(make(name, {name: kind})) for name, kind in self._types.items()}
        serializers = {
            name: adapter.serializer for name, adapter in adapters.items() if mentions_secret(adapter.core_schema)
        }
        return typing.cast(Mapping[str, SchemaSerializer], serializers)

    @functools.cached_property
    def validator(self) -> SchemaValidator | None:
        """Pydantic's validator of all annotated arguments; None when there are none.  Built at the first use.

        Raises ``InvalidActor`` when pydantic cannot validate a type.
        """
        return None if self._adapter is None else typing.cast(SchemaValidator, self._adapter.validator)

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[Any] | None:
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
            return TypeAdapter(schema)
        except (PydanticUserError, PydanticUndefinedAnnotation) as error:
            name = next((name for name, kind in self._types.items() if not _valid(kind)), "?")
            text = str(error).partition("\n")[0].removesuffix(".")
            raise InvalidActor(
                f"actor {self.actor!r}, parameter {name!r}: pydantic cannot validate its annotation ({text}); "
                f"annotate it with a type that can be written as JSON, {REMEDY}"
            ) from error

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
                problems.append(f"{name}: no such parameter{self._got(value)}")
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
        options: dict[str, Any] = {"context": SEALING, "fallback": marked} if self.secrets else {}
        try:
            raw = to_json(given, round_trip=True, **options)
        except Exception:
            for name, value in list(given.items()):
                try:
                    to_json(value, round_trip=True, **options)
                except Exception as error:
                    del given[name]
                    text = str(error).removeprefix("Error serializing to JSON: ")
                    problems.append(f"{name}: cannot be written as JSON ({text}){self._got(value)}")
            raw = to_json(given, round_trip=True, **options)
        return to_json(unmarked(from_json(raw))) if options and MARK.encode() in raw else raw

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
            if self._hidden:
                raise Refusal(f"{self.actor}: its arguments could not be validated: {type(error).__name__}") from None
            raise Refusal(
                f"{self.actor}: its arguments could not be validated: {type(error).__name__}: {error}"
            ) from error
        return validated

    def _worded(self, error: ValidationError) -> Iterator[str]:
        for item in error.errors(include_url=False, include_context=False):
            first, *below = item["loc"] or ("?",)
            if self._hidden:  # the names below it may be of the sender's making, and so may a validator's text
                yield f"{first}: does not fit ({item['type']})"
                continue
            path = str(first) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in below)
            if item["type"] == "missing":
                kind = self._types.get(str(first)) if not below else None
                yield f"{path}: missing" + (f", expected {_named(kind)}" if kind is not None else "")
                continue
            text = item["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ")
            yield f"{path}: {text}{self._got(item['input'])}"

    def _got(self, value: object) -> str:
        return "" if self._hidden or self.secrets else f", got {_shown(value)}"

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
