"""What an actor returns, as its return annotation has it."""

import functools
import inspect
import types
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Union

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation
from pydantic_core import PydanticSerializationError

from errors import Failure, InvalidActor, InvalidResult
from middleware.signature import REMEDY


class Returns:
    """Writes results by the return annotation of a function.  Thread-safe; nothing is built before the first use.

    A result is validated as by pydantic (a dict that fits a model is one) and then written by the annotation, so that
    a reader finds what it says.  ``Failure`` in a union is no type of a result.

    Parameters:
      actor: the name of the actor, for errors.
    """

    def __init__(self, actor: str, fn: Callable[..., Any]) -> None:
        self.actor = actor
        self._fn = fn

    @functools.cached_property
    def adapter(self) -> TypeAdapter[Any] | None:
        """Pydantic's; None when nothing is said of the result.  Raises ``InvalidActor`` when it cannot be made."""
        try:
            kind = self._kind()
            return None if kind in (Any, object) else TypeAdapter(kind)
        except (PydanticUserError, PydanticUndefinedAnnotation, NameError, AttributeError, TypeError) as error:
            raise InvalidActor(
                f"actor {self.actor!r}: its results cannot be written by its return annotation "
                f"({str(error).partition(chr(10))[0]}); correct it, {REMEDY}"
            ) from error

    def written(self, result: Any) -> bytes | None:
        """The result as JSON; None when the annotation says nothing.  Raises ``InvalidResult``."""
        try:
            adapter = self.adapter
            if adapter is None:
                return None
            return adapter.dump_json(adapter.validate_python(result))
        except ValidationError as error:
            problem, *others = error.errors(include_url=False, include_context=False, include_input=False)
            path = ".".join(map(str, problem["loc"]))
            text = f"{path}: {problem['msg']}" if path else problem["msg"]
            more = f", and {len(others)} more" if others else ""
            raise InvalidResult(
                f"{self.actor}: what it returned, a {type(result).__name__}, does not fit its annotation ({text}{more})"
            ) from error
        except (PydanticSerializationError, InvalidActor) as error:
            raise InvalidResult(f"{self.actor}: its result cannot be written as JSON ({error})") from error

    def _kind(self) -> Any:
        fn = inspect.unwrap(self._fn)
        annotation = inspect.signature(fn).return_annotation
        if annotation is inspect.Signature.empty:
            return Any
        holder = SimpleNamespace(__annotations__={"return": annotation})
        kind = typing.get_type_hints(holder, getattr(fn, "__globals__", {}), include_extras=True)["return"]
        if typing.get_origin(kind) in (Union, types.UnionType):
            kept = [part for part in typing.get_args(kind) if not _is_failure(part)]
            return Union[tuple(kept)] if kept else Any  # noqa: UP007  made of a tuple
        return Any if _is_failure(kind) else kind


def _is_failure(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Failure)
