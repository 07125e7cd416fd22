"""This machine's clock, by which a SQLite ledger goes; the ledger's package reads it nowhere else.

``hareline_testing`` puts another in its place: there time stands still until a test moves it.
"""

import time


def micros() -> int:
    """Microseconds since 1970.  Any thread."""
    return time.time_ns() // 1000
