import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = ["gclf-infer", "gclf-train", "gclf-export"]


def help_of(command: str) -> str:
    path = Path(sys.executable).with_name(command)
    if not path.exists():
        pytest.skip(f"{command} is not installed here")
    run = subprocess.run([path, "--help"], capture_output=True, text=True, check=True)
    return run.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_that_the_readme_names_exist(command: str):
    """Each paragraph and each line of code speaks of the command that it names last before."""
    named: set[str] = set()
    for block in re.split(r"\n\n|\n(?=uv run )", README):
        parts = re.split(rf"({'|'.join(COMMANDS)})", block)
        for speaker, text in zip(parts[1::2], parts[2::2], strict=True):
            if speaker == command:
                named |= set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    options = set(re.findall(r"--[a-z][a-z-]*", help_of(command)))

    assert named, "the README shows no option of it"
    assert named <= options


def test_the_readme_has_its_two_commands_and_ci_takes_them_from_there():
    lines = [line for line in README.splitlines() if line.startswith("python3 -m pip install")]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert [line.split()[-1] for line in lines] == ["examples/faces", "pytest"]
    assert "README.md" in script
    assert not any(line in script for line in lines)


def test_every_file_that_the_readme_names_is_there():
    linked = re.findall(r"\]\(([^)#:]+)\)", README)
    modules = re.findall(r"\b([a-z]+\.py)\b", README)
    present = {
        path.name
        for folder in ("runtime", "trainer", "export", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    }

    assert not [link for link in linked if not (ROOT / link).exists()]
    assert not set(modules) - present
