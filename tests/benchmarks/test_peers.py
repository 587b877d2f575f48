import ast
import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contenders import PEERS
from benchmarks.environments import PeerError, metadata
from gclf_runtime import Classifier

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = sorted((ROOT / "benchmarks" / "peers").glob("*.py"))
TURNS = sorted(
    path
    for path in (ROOT / "benchmarks" / "turns").glob("*.py")
    if path.read_text(encoding="utf-8").startswith("# /// script")
)
ADAPTERS = [*PROGRAMS, *TURNS]
each_adapter = pytest.mark.parametrize("adapter", ADAPTERS, ids=[path.stem for path in ADAPTERS])


def test_every_program_is_run_by_a_peer():
    assert {peer.adapter for peer in PEERS} == set(PROGRAMS)


def test_some_who_take_turns_have_an_environment_of_their_own():
    assert {path.stem for path in TURNS} == {"opencv_decoding", "openvino_network"}


@each_adapter
def test_an_adapter_pins_what_it_needs(adapter: Path):
    needs = metadata(adapter)

    assert needs["requires-python"] == ">=3.11"
    assert needs["dependencies"]
    assert all(re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", line) for line in needs["dependencies"])
    assert needs["tool"]["uv"] == {"exclude-newer": "2026-11-22T00:00:00Z"}


@each_adapter
def test_an_adapter_compiles_and_hides_no_package_that_it_imports(adapter: Path):
    tree = ast.parse(adapter.read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
    }

    assert ast.get_docstring(tree)
    assert not imported & {path.stem for path in ADAPTERS}
    assert not any(name.startswith("gclf") for name in imported)
    assert adapter in TURNS or "benchmarks" not in imported


def test_the_loop_answers_as_the_classifier_does(tmp_path: Path, colours: Path):
    pictures, model = tmp_path / "pictures" / "unsorted", tmp_path / "model"
    shutil.copytree(ROOT / "examples" / "faces", pictures)
    model.mkdir()
    shutil.copyfile(colours, model / "gclf.onnx")
    (model / "spec.json").write_text(
        '{"label_names": ["red", "green", "blue"], "height": 16, "width": 16}'
    )
    adapter = ROOT / "benchmarks" / "peers" / "naive_loop.py"
    rows = tmp_path / "rows.csv"
    subprocess.run([sys.executable, adapter, pictures.parent, model, rows], check=True)
    files = sorted(pictures.glob("*.jpg"))
    results = Classifier(colours, device="cpu").predict_files(files)
    expected = [one.prediction for one in results if one.prediction]
    with rows.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))

    assert [row["path"] for row in found] == [str(path) for path in files]
    assert [row["label"] for row in found] == [one.label for one in expected]
    assert [float(row["probability"]) for row in found] == pytest.approx(
        [one.probability for one in expected],
        abs=0.02,  # a JPEG of some size is decoded at a reduced scale by ours
    )


def test_a_script_without_metadata_is_refused(tmp_path: Path):
    (tmp_path / "bare.py").write_text("print()\n")

    with pytest.raises(PeerError, match="Give it a PEP 723 block"):
        metadata(tmp_path / "bare.py")
