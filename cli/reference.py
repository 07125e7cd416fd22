"""The reference page of the command line, made from the commands themselves.

python -m cli.reference > docs/reference/cli.md
"""

from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

from cli import main


def page() -> str:
    """The page as Markdown."""
    command = get_command(main)
    body = get_docs_for_click(obj=command, ctx=Context(command, info_name="hareline"), name="hareline")
    return f"<!-- Made by `python -m cli.reference`; a test keeps it true. -->\n\n{body.strip()}\n"


if __name__ == "__main__":
    print(page(), end="")
