"""``python -m cli`` is ``hareline``."""

from cli import main

main(prog_name="hareline")
