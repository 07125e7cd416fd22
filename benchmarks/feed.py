"""A producer process: ``python -m benchmarks.feed MODULE KIND COUNT MODE [RATE]``; prints its figures as JSON."""

import importlib
import json
import resource
import sys
import threading
import time


def main(module: str, kind: str, count: int, mode: str, rate: float = 0.0) -> None:
    system = importlib.import_module(module)
    system.send(kind, 0.0)  # connects, declares
    system.flush()
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    match mode:
        case "one":
            for _ in range(count):
                system.send(kind, time.time())
        case "threads":
            threads = [threading.Thread(target=_some, args=(system, kind, count // 8)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        case "bulk":
            system.bulk(kind, count)
            system.flush()
        case "paced":
            for number in range(count):
                wait = start + number / rate - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                system.send(kind, time.time())
    took = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    system.flush()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"rate": count / took, "cpu_us": cpu / count * 1e6}))
    system.close()


def _some(system: object, kind: str, count: int) -> None:
    for _ in range(count):
        system.send(kind, time.time())  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], *map(float, sys.argv[5:]))
