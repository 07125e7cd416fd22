"""``hareline webhooks``: what receivers check webhooks with."""

from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from cli.exits import BadInput
from cli.shown import as_json

app = typer.Typer(no_args_is_help=True, help="Webhooks: the keys that their receivers check them with.")


@app.command()
def key(
    url: Annotated[str, typer.Argument(help="The address, to the letter as it is registered.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the key of an address, which signs for no other.

    It is made of HARELINE_WEBHOOK_SECRET.  Give it to the owner of the address, and to nobody else.
    """
    from actors.signing import key_for, written
    from actors.webhooks import Url

    try:
        TypeAdapter(Url).validate_python(url)
    except ValidationError:
        raise BadInput(f"{url!r} is no address of a webhook; write https://…") from None
    found = written(key_for(url))
    if json:
        return as_json({"url": url, "key": found})
    print(found)
