"""python -m tests.servers install | unpack 4.0|4.3 DIRECTORY | test [PYTEST ARGUMENT ...]"""

import sys
from pathlib import Path

from tests.servers.container import run_tests
from tests.servers.install import CannotInstall, install
from tests.servers.unpack import unpack

match sys.argv[1:]:
    case ["install"]:
        try:
            install()
        except CannotInstall as error:
            sys.exit(str(error))
    case ["test", *arguments]:
        run_tests(arguments)
    case ["unpack", version, directory]:
        unpack(version, Path(directory).absolute())
    case _:
        sys.exit(f"usage: {__doc__}")
