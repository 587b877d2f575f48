"""Peers in environments of their own, which uv makes from what each adapter says of itself.

It never touches the environment that it runs in. The packages are compiled: where Python may
write no bytecode, every start of a peer would compile anew, and flatter us.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_TIMEOUT_S = 1800  # gigabytes of torch on a slow line
_BLOCK = re.compile(r"(?ms)^# /// script\n(.*?)^# ///$")
# What would lead uv, or a peer's Python, back to the environment that this one runs in.
_ACTIVE = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH", "PYTHONHOME")
_VERSIONS = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


class PeerError(RuntimeError):
    """A peer cannot be made ready; the message is one line."""


@cache
def python_of(adapter: Path) -> Path:
    """Make an adapter's environment, or find it as it was made before, and return its Python.

    Args:
        adapter: A script with PEP 723 metadata.

    Raises:
        PeerError: There is no uv, or it cannot make the environment.
    """
    same = f"{sys.version_info.major}.{sys.version_info.minor}"  # another Python is another speed
    _uv("sync", "--quiet", "--python", same, "--script", str(adapter))
    return Path(_uv("python", "find", "--script", str(adapter)).strip())


def versions(adapter: Path) -> dict[str, str]:
    """Return the version of each package that an adapter names, as its environment has it.

    Raises:
        PeerError: The environment cannot be made.
    """
    names = [re.split(r"[\[=<>!~ ]", line)[0] for line in metadata(adapter)["dependencies"]]
    return json.loads(_run(str(python_of(adapter)), "-c", _VERSIONS, *names))


def metadata(adapter: Path) -> dict[str, Any]:
    """Read the PEP 723 block of a script.

    Raises:
        PeerError: It has none.
    """
    block = _BLOCK.search(adapter.read_text(encoding="utf-8"))
    if block is None:
        raise PeerError(f"{adapter} does not say what it needs. Give it a PEP 723 block")
    return tomllib.loads(re.sub(r"(?m)^# ?", "", block[1]))


def environment_of(python: str | Path) -> dict[str, str]:
    """Return the variables to start a command with: all of them for one of this environment.

    For any other they are without those that would lead it back to this one.

    Args:
        python: The interpreter, or a command that was installed beside it.
    """
    if Path(python).parent == Path(sys.executable).parent:
        return dict(os.environ)
    return _of_nobody()


def _of_nobody() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _ACTIVE}


def _uv(*arguments: str) -> str:
    return _run(*_find_uv(), *arguments)


@cache
def _find_uv() -> tuple[str, ...]:
    """Find uv: a command, a package of this Python, or one of the system's."""
    if found := shutil.which("uv"):
        return (found,)
    if importlib.util.find_spec("uv"):
        return (sys.executable, "-m", "uv")
    outside = os.pathsep.join(
        part for part in os.get_exec_path() if Path(part) != Path(sys.executable).parent
    )
    if system := shutil.which("python3", path=outside):
        with suppress(PeerError):  # that Python may have no uv either
            _run(system, "-m", "uv", "--version")
            return (system, "-m", "uv")
    raise PeerError("peers are installed by uv, and there is none. Install it: pip install uv")


def _run(*command: str) -> str:
    """Run a command as if no environment were active, and return what it prints."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=True,
            env=_of_nobody() | {"UV_COMPILE_BYTECODE": "1"},
            text=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        last = " ".join(str(error.stderr).split())[-300:] or f"exit code {error.returncode}"
        raise PeerError(f"{' '.join(command[:4])} failed: {last}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{' '.join(command[:4])} failed: {error}") from error
    return done.stdout
