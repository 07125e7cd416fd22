"""A process that is counted: its meter, and its part in serving what its host has counted."""

from collections.abc import Sequence

from metrics.exporter import Exporter
from metrics.file import Pair
from metrics.folder import Folder
from metrics.meter import Change, Meter
from settings import Settings


class Counting:
    """For a process that was asked for metrics: ``settings.metrics_port`` is set.  Creating one does no I/O."""

    def __init__(self, settings: Settings) -> None:
        assert settings.metrics_port is not None
        self._url = settings.database_url
        self._role = ""
        self._folder = Folder(settings.metrics_port, settings.database_url)
        self.meter = Meter(lambda: self._folder.join(self._role))
        self._exporter = Exporter(self._folder, settings.metrics_host, settings.metrics_port, self._settle)

    def start(self, role: str) -> None:
        """Count, and serve or stand by.  Once.  Raises ``SettingsError``.

        Parameters:
          role: what kind of process this is, a word.
        """
        self._role = role
        self.meter.open()
        self._exporter.start()

    def stop(self) -> None:
        """Count no further, and let another serve.  Idempotent."""
        self._exporter.stop()
        self.meter.close()

    def _settle(self, claimed: Sequence[Pair]) -> list[Change] | None:
        from ledger.settling import settled  # with it comes SQLAlchemy, which is seldom needed

        return settled(self._url, claimed)
