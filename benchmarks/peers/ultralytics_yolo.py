# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "onnx==1.23.2",
#     "onnxruntime==1.31.1",
#     "torch==2.15.0",
#     "torchvision==0.29.2",
#     "ultralytics==8.4.190",
# ]
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# ///
"""Ultralytics: `yolo classify predict model=nchw.onnx source=FOLDER imgsz=64 batch=B save=False`.

It follows the "Predict" and "CLI" pages of its documentation: the command is run through its own
entry point, and the rows are read from the log that it prints, to two decimals. The pictures with
the answers drawn on them, which it saves unless told otherwise, are left out. The batch is the
fourth argument: it takes 1 unless told otherwise, and was fastest with 64 of 1, 16 and 64.
"""

import contextlib
import csv
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path

# image 1/200 /a/folder/00000.jpg: 64x64 female 0.93, male 0.07, 1.2ms
_LINE = re.compile(r"image \d+/\d+ (.+): \d+x\d+ (.+?) (\d\.\d+),? ")


def main(pictures: Path, model: Path, output: Path, batch: int) -> None:
    """Classify every picture of a folder."""
    spec = json.loads((model / "spec.json").read_text())
    sys.argv = [
        "yolo",
        "classify",
        "predict",
        f"model={model.resolve() / 'nchw.onnx'}",
        f"source={pictures.resolve()}/**/*.jpg",
        f"imgsz={spec['height']}",
        f"batch={batch}",
        "save=False",
    ]
    log = io.StringIO()
    output = output.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {
            "YOLO_CONFIG_DIR": scratch,
            "YOLO_AUTOINSTALL": "false",
            "YOLO_OFFLINE": "true",
        }
        os.chdir(scratch)  # it writes runs/ where it stands
        with contextlib.redirect_stdout(log):
            from ultralytics import settings

            settings.update({"sync": False})  # or it reports to its makers
            from ultralytics.cfg import entrypoint

            entrypoint()
        os.chdir(output.parent)
    with output.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "probability"))
        rows.writerows(_LINE.findall(log.getvalue()))


if __name__ == "__main__":
    folders = [Path(argument) for argument in sys.argv[1:4]]
    main(*folders, batch=int(sys.argv[4]))
