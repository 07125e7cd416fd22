"""``hareline keys``: what encrypts sensitive jobs."""

import base64
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.exits import BadInput
from cli.given import operator
from cli.opened import control, queries
from cli.shown import as_json, say, table
from ledger.sealing import KeyRing
from settings import KEY_BYTES, KEY_ID, load

app = typer.Typer(no_args_is_help=True, help="Keys of sensitive jobs: make one, see what rests under which, rotate.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def generate(
    id: Annotated[str | None, typer.Option(help="Its id; this year and month, if not given.")] = None,
    json: Json = False,
) -> None:
    """Print a new key, as HARELINE_KEYS takes it.

    It is kept nowhere: put it where your secrets are.
    """
    name = f"{datetime.now(UTC):%Y-%m}" if id is None else id
    if not KEY_ID.fullmatch(name):
        raise BadInput(f"{name!r} is no id: write up to 40 letters, digits, dots, _ and -")
    key = base64.b64encode(os.urandom(KEY_BYTES)).decode()
    if json:
        return as_json({"id": name, "key": key})
    print(f"{name}:{key}")


@app.command("ls")
def ls(json: Json = False) -> None:
    """List the keys, and how many rows rest under each.

    A key can be dropped when nothing rests under it.
    """
    from actors.mailboxes import places

    ring = KeyRing.of(load())
    with queries() as asked:
        found = asked.keys(places())
    known = {id: "writes" if place == 0 else "reads" for place, id in enumerate(ring.ids)}
    ids = [*ring.ids, *sorted({id for rows in found.values() for id in rows} - known.keys())]
    rows = [{"key": id, "use": known.get(id, "missing"), **{name: found[name][id] for name in found}} for id in ids]
    if json:
        return as_json(rows)
    table(("key", "use", *found), [tuple(row.values()) for row in rows])


@app.command()
def rotate(
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Rows in one transaction.")] = 100, json: Json = False
) -> None:
    """Encrypt all that rests again, under the first key.

    In the ledger, and in the files of ARCHIVE_DIR where that is a folder of this machine.  Beside running workers; a
    run that was stopped goes on with the next.
    """
    settings = load()
    ring = KeyRing.of(settings)
    if not ring.ids:
        raise BadInput("HARELINE_KEYS has no key; set it to what `hareline keys generate` prints")
    from actors.mailboxes import places
    from control.keys import rotate as verb
    from ledger.archived import rotate_files

    with control() as ledger:
        done = verb(ledger, ring, by=operator(), batch=batch, places=places())
    files, left = rotate_files(Path(settings.archive_dir), ring)
    if json:
        return as_json(
            {
                "under": done.under,
                "rows": +done.rows,
                "left": +done.left,
                "files": files,
                "files_left": [*map(str, left)],
            }
        )
    say(f"{done.rows.total()} rows and {files} files are now under the key {done.under}")
    if done.left.total() or left:
        say(f"{done.left.total()} rows and {len(left)} files are as they were: changed, damaged, or just being written")
