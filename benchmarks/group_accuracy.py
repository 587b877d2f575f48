"""How often is a model right, overall and in each group of an attributes table?

    uv run python benchmarks/group_accuracy.py DATA [--model M.onnx] [--split faces/val]

DATA holds faces_attributes.csv (file, gender, age, race) and the files that it names. Prints
Markdown; intervals are Wilson's at 95 % (Wilson 1927).
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

from gclf_runtime import Classifier

_Z = 1.959964  # two-sided 95 %


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--split", default="faces/val")
    options = parser.parse_args()

    with (options.data / "faces_attributes.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith(options.split + "/")]
    classifier = Classifier(options.model) if options.model else Classifier.default()
    right: dict[tuple[str, str], list[bool]] = defaultdict(list)
    results = classifier.predict_files(options.data / row["file"] for row in rows)
    for row, result in zip(rows, results, strict=True):
        if result.prediction is None:
            raise SystemExit(f"error: {result.error}")
        is_right = result.prediction.label == row["gender"]
        right["all", "all"].append(is_right)
        for column in ("gender", "age", "race"):
            right[column, row[column]].append(is_right)
    print("| group | pictures | accuracy | 95 % interval |\n|---|---|---|---|")
    for (column, value), answers in sorted(right.items(), key=_all_first):
        low, high = wilson(sum(answers), len(answers))
        name = "all" if column == "all" else f"{column}: {value}"
        share = sum(answers) / len(answers)
        print(f"| {name} | {len(answers)} | {share:.1%} | {low:.1%} to {high:.1%} |")


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share."""
    share, width = right / count, _Z**2 / count
    middle = (share + width / 2) / (1 + width)
    reach = _Z / (1 + width) * (share * (1 - share) / count + width / (4 * count)) ** 0.5
    return middle - reach, middle + reach


def _all_first(item: tuple[tuple[str, str], list[bool]]) -> tuple[bool, str, int, str]:
    (column, value), _ = item
    number = 99 if value.startswith("more") else int(value.split("-")[0]) if column == "age" else 0
    return column != "all", {"gender": "1"}.get(column, column), number, value


if __name__ == "__main__":
    main()
