"""Result files: one JSON per question, with everything that a figure needs to be believed."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
_SCHEMA = 1
_ADDRESS = re.compile(r"https?://\S+")
_PATH = re.compile(r"(?<![\w.~/])/(?:[^\s/]+/)*(?=[^\s/])")


@dataclass(frozen=True)
class Result:
    """What a question was answered with.

    Attributes:
        question: Name of the module that asked.
        conditions: Hardware, versions, seed, command.
        rows: One measurement each, by names that the question knows.
        notes: What went otherwise than wished: a peer that did not run, a busy machine.
    """

    question: str
    conditions: dict[str, Any]
    rows: list[dict[str, Any]]
    notes: list[str]


def save(result: Result, folder: Path) -> Path:
    """Write it, and return the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.question}.json"
    record = {"schema": _SCHEMA, **asdict(result), "notes": [*map(clean, result.notes)]}
    text = json.dumps(record, indent=1, ensure_ascii=False)
    # Lists of numbers on one line: a file that one can read.
    text = re.sub(r"\[\s+([-\d.e,\s]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def clean(text: str) -> str:
    """Return what may be published: without addresses, and of absolute paths the last name."""
    return _PATH.sub("", _ADDRESS.sub("", text))


def load(path: Path) -> Result:
    """Read a result file.

    Raises:
        ValueError: It is of another schema or question, or has no rows.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or record.pop("schema", None) != _SCHEMA:
        raise ValueError(f"{path} is no result of schema {_SCHEMA}. Measure it again")
    result = Result(**record)
    if result.question != path.stem or not result.rows:
        raise ValueError(f"{path} is not the answer to {path.stem}. Measure it again")
    return result


def folder_name(conditions: dict[str, Any]) -> str:
    """Return a name of date and hardware, such as 2026-11-22-amd-epyc-9b45-2-cores."""
    gpu = str(conditions["gpu"]).split(",")[0]
    words = re.sub(r"[^a-z0-9]+", "-", f"{conditions['cpu']} {gpu}".lower()).strip("-")
    return f"{conditions['date'][:10]}-{words}-{conditions['cpus']}-cores"
