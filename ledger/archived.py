"""The files of old history, brought under another key."""

import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

from errors import Undecipherable
from ledger.resting import MESSAGE, resealed
from ledger.sealing import ERROR, KeyRing, key_ids

#: A file that was written to so lately may be the one that is being written.
REST_S = 3_600.0


def rotate_files(folder: Path, ring: KeyRing) -> tuple[int, list[Path]]:
    """Write anew the files with envelopes under other keys of the ring than the first.

    Returns how many, and those it left: written to within the last hour, damaged, or not opened by their key.  A
    file is replaced whole, once the new one is on the disk.
    """
    written, left = 0, []
    for path in sorted(folder.glob("*.jsonl.gz")):
        try:
            text = gzip.decompress(path.read_bytes()).decode()
            if not key_ids(text) & set(ring.ids[1:]):
                continue
            if time.time() - path.stat().st_mtime < REST_S:
                raise ValueError("it may still be written to")
            lines = [_resealed(json.loads(line), ring) for line in text.splitlines()]
        except (OSError, EOFError, ValueError, KeyError, Undecipherable):
            left.append(path)
            continue
        new = path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(gzip.compress("".join(json.dumps(x, separators=(",", ":")) + "\n" for x in lines).encode()))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        written += 1
    return written, left


def _resealed(job: dict[str, Any], ring: KeyRing) -> dict[str, Any]:
    if isinstance(job["body"], str) and key_ids(job["body"]):
        job["body"] = resealed(ring, MESSAGE, job["id"], job["body"])
    for attempt in job["attempts"]:
        if attempt["error_message"]:
            attempt["error_message"] = resealed(ring, ERROR, job["id"], attempt["error_message"])
    return job
