"""python -m tests.servers install | unpack 4.0|4.3 DIRECTORY"""

import sys
from pathlib import Path

from tests.servers.install import install
from tests.servers.unpack import unpack

match sys.argv[1:]:
    case ["install"]:
        install()
    case ["unpack", version, directory]:
        unpack(version, Path(directory).absolute())
    case _:
        sys.exit(f"usage: {__doc__}")
