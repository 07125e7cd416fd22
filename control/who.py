"""Who asks for something to be done."""

from ledger.who import By, Who

__all__ = ["By", "Who"]
