"""``Secret[…]``: an argument, or a field of one, that only the body sees in clear."""

import secrets
from typing import Any, Generic, TypeVar, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")

#: In the place of a secret wherever it is shown.
SHOWN = "Secret(…)"
#: Marks a secret in arguments that are about to be sealed: the one member of an object around it.  Nobody can send one.
MARK = f"secret-{secrets.token_hex(8)}"
#: Pydantic's context in which secrets are written with that mark; in any other they are not written.
SEALING = {"hareline": "sealing"}


class Secret(Generic[T]):
    """A value of type ``T`` that no ``repr``, log, error or JSON shows.

    Annotate with it a parameter of an actor, or a field of a pydantic model or a dataclass in one, at any depth.
    Senders pass the value itself, or a ``Secret`` of it; the body calls :meth:`reveal`.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value in clear."""
        return self._value

    def __repr__(self) -> str:
        return SHOWN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = handler.generate_schema(*get_args(source)) if get_args(source) else core_schema.any_schema()
        return core_schema.no_info_wrap_validator_function(
            _validate,
            inner,
            metadata={MARK: True},
            serialization=core_schema.wrap_serializer_function_ser_schema(_written, schema=inner, info_arg=True),
        )


def _validate(value: Any, handler: core_schema.ValidatorFunctionWrapHandler) -> Secret[Any]:
    return Secret(handler(value.reveal() if isinstance(value, Secret) else value))


def _written(
    value: Secret[Any], handler: core_schema.SerializerFunctionWrapHandler, info: core_schema.SerializationInfo
) -> Any:
    return {MARK: handler(value.reveal())} if info.context is SEALING else SHOWN


def marked(value: object) -> object:
    """As the ``fallback`` of pydantic: what it makes of a bare ``Secret``.  Raises ``TypeError`` for anything else."""
    if isinstance(value, Secret):
        return {MARK: value.reveal()}
    raise TypeError(f"Unable to serialize unknown type: {type(value)}")


def unmarked(value: Any) -> Any:
    """Plain JSON without the marks."""
    if isinstance(value, dict):
        return unmarked(value[MARK]) if MARK in value else {name: unmarked(item) for name, item in value.items()}
    return [unmarked(item) for item in value] if isinstance(value, (list, tuple)) else value


def mentions_secret(schema: Any) -> bool:
    """Whether there is a secret anywhere in one of pydantic's core schemas."""
    if isinstance(schema, dict):
        if MARK in (schema.get("metadata") or ()):
            return True
        return any(mentions_secret(item) for item in schema.values())
    return isinstance(schema, (list, tuple)) and any(mentions_secret(item) for item in schema)
