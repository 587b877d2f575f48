"""Make a CSV that gclf-train reads out of a table of attributes: all of them become one label.

    python examples/attributes_to_labels.py faces_attributes.csv train.csv --only faces/train/

The first column names the picture, relative to the table; the others are joined by a comma.
"""

import argparse
import csv
from pathlib import Path


def main() -> None:
    """Read one table, write the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attributes", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--only", default="", help="take pictures whose name begins like this")
    options = parser.parse_args()
    folder = options.attributes.resolve().parent
    with (
        options.attributes.open(encoding="utf-8", newline="") as table,
        options.output.open("w", encoding="utf-8", newline="") as output,
    ):
        rows = csv.reader(table)
        next(rows)
        writer = csv.writer(output)
        writer.writerow(["path", "label"])
        for name, *attributes in rows:
            if name.startswith(options.only):
                writer.writerow([folder / name, ", ".join(attributes)])


if __name__ == "__main__":
    main()
