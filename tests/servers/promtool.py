"""Prometheus' own checker, out of Debian's package; its server is not installed, and never started."""

import os
import shutil
import subprocess
from pathlib import Path


def promtool() -> Path:
    """The installed one, or one unpacked into the cache, now if need be.  Raises ``FileNotFoundError``: why not."""
    if found := shutil.which("promtool"):
        return Path(found)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hareline-tests"
    unpacked = cache / "prometheus/usr/bin/promtool"
    if not unpacked.exists():
        _unpack(cache)
    return unpacked


def _unpack(cache: Path) -> None:
    work = cache / f"prometheus.{os.getpid()}"
    work.mkdir(parents=True)
    try:
        subprocess.run(
            ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=", "prometheus"],
            cwd=work,
            check=True,
            capture_output=True,
            text=True,
        )
        [package] = work.glob("prometheus_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, work / "root"], check=True, capture_output=True)
        shutil.rmtree(cache / "prometheus", ignore_errors=True)
        (work / "root").rename(cache / "prometheus")
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or error
        raise FileNotFoundError(f"no promtool: install Debian's prometheus, or run apt-get update ({said})") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
