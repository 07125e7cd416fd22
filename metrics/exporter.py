"""The address at which Prometheus asks."""

import logging
import os
import threading
from array import array
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from errors import LedgerError
from metrics.catalogue import METRICS
from metrics.folder import Folder, Settle

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

logger = logging.getLogger(__name__)

#: How often whoever serves looks for processes that have ended, and the others whether nobody serves any more.
LOOK_S = 1.0


class Exporter:
    """Serves what the processes of this host have counted: one of them does, the others stand by.

    Parameters:
      settle: asks the ledger; it may raise ``LedgerError``, and is asked again.
    """

    def __init__(self, folder: Folder, host: str, port: int, settle: Settle) -> None:
        self._folder = folder
        self._address = (host, port)
        self._settle = settle
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._complained = False
        os.register_at_fork(after_in_child=folder.yield_)

    def start(self) -> None:
        """Serve, or stand by, on a thread.  Once."""
        self._thread = threading.Thread(target=self._run, name="hareline-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let another serve.  Idempotent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def _run(self) -> None:
        stop_serving: Callable[[], None] | None = None
        while True:
            try:
                if self._folder.lead():
                    stop_serving = stop_serving or self._serve()
                    self._folder.fold(self._settle)
            except LedgerError as error:
                logger.warning("what processes that died had committed is counted later: %s", error)
            except Exception:
                logger.exception("metrics: this pass failed, there is another in %g s", LOOK_S)
            if self._stopping.wait(LOOK_S):
                break
        if stop_serving is not None:
            stop_serving()
        self._folder.yield_()

    def _serve(self) -> Callable[[], None] | None:
        """How to stop, or None when the address is another's."""
        from prometheus_client import CollectorRegistry, start_http_server

        registry = CollectorRegistry(auto_describe=False)
        registry.register(Collected(self._folder))
        try:
            server, _ = start_http_server(self._address[1], self._address[0], registry)
        except OSError as error:
            if not self._complained:
                logger.error("metrics are not served at %s:%d: %s", *self._address, error)
            self._complained = True
            return None
        logger.info("metrics are served at http://%s:%d/metrics", *self._address)

        def stop() -> None:
            server.shutdown()
            server.server_close()

        return stop


class Collected:
    """The folder's values, for prometheus_client."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def collect(self) -> "Iterator[Family]":
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
        from prometheus_client.utils import floatToGoString

        values = self._folder.values()
        by_name: dict[str, list[tuple[tuple[str, ...], array[float]]]] = {}
        for (name, labels), numbers in sorted(values.items(), key=lambda item: item[0]):
            by_name.setdefault(name, []).append((labels, numbers))
        for metric in METRICS:
            rows = by_name.get(metric.name)
            if rows is None:
                continue
            if metric.kind == "histogram":
                histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
                bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
                for labels, numbers in rows:
                    counts = accumulate(numbers[:-1])
                    histogram.add_metric(labels, list(zip(bounds, counts, strict=True)), numbers[-1])
                yield histogram
            else:
                kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                family = kind(metric.name, metric.help, labels=metric.labels)
                for labels, numbers in rows:
                    family.add_metric(labels, numbers[0])
                yield family
