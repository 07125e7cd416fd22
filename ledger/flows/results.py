"""What the items of an ``each`` step returned, for the step that joins them."""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import core_schema

from ledger.shared import SharedSession

#: Results read at once.
PAGE = 500


class Results(Sequence[Any]):
    """The results of an ``each`` step, in the order of its items, without those that failed.

    Nothing is read before it is asked for, and then by pages, so however many there are, they need no memory: annotate
    the parameter of the joining actor with it.  Iterate it; an index reads what stands before it.
    """

    def __init__(self, flow: str, step: str) -> None:
        self.flow = flow
        self.step = step
        self._session: SharedSession

    def open(self, session: SharedSession) -> None:
        """From now on it reads by this session."""
        self._session = session

    def __len__(self) -> int:
        return self._session.call(lambda session: session.count_flow_results(self.flow, self.step))

    def __iter__(self) -> Iterator[Any]:
        after = -1
        while True:
            page = self._session.call(lambda session: session.flow_results(self.flow, self.step, after, PAGE))  # noqa: B023
            yield from (None if body is None else json.loads(body) for _, body in page)
            if len(page) < PAGE:
                return
            after = page[-1][0]

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, int) or index < 0:
            return list(self)[index]
        for value in itertools.islice(self, index, None):
            return value
        raise IndexError(index)

    def __repr__(self) -> str:
        return f"<Results of {self.step!r} in flow {self.flow}>"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        """In a message it is a reference; the worker opens it."""
        fields = {name: core_schema.typed_dict_field(core_schema.str_schema()) for name in ("flow", "step")}
        reference = core_schema.no_info_after_validator_function(
            lambda found: cls(found["flow"], found["step"]), core_schema.typed_dict_schema(fields)
        )
        return core_schema.json_or_python_schema(
            json_schema=reference,
            python_schema=core_schema.is_instance_schema(cls),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda results: {"flow": results.flow, "step": results.step}
            ),
        )
