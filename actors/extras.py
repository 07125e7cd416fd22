"""Libraries that only some jobs need, installed with an extra of Hareline's."""

from importlib import import_module
from types import ModuleType

from errors import Failure


class MissingExtra(Failure):
    """Raised by a job whose library is not installed; it says what to install."""

    def __init__(self, what: str, library: str, install: str) -> None:
        super().__init__(
            f"{what} needs {library}, which is not installed here: pip install {install}, and retry this job",
            code="missing_extra",
        )


def extra(module: str, what: str, install: str) -> ModuleType:
    """The module, imported now.  Raises :class:`MissingExtra`.

    Parameters:
      what: what cannot be done without it: "reading Parquet".
      install: what to give to pip: ``"'hareline[data]'"``.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(what, module.partition(".")[0], install) from error
