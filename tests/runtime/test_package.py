import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import gclf_runtime

PACKAGE = Path(gclf_runtime.__file__).parent


def test_the_public_names_are_these():
    assert gclf_runtime.__all__ == sorted(gclf_runtime.__all__)
    assert all(hasattr(gclf_runtime, name) for name in gclf_runtime.__all__)
    assert not hasattr(gclf_runtime, "Nothing")


def test_importing_it_loads_neither_torch_nor_onnxruntime():
    program = "import gclf_runtime, sys, json; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in json.loads(run.stdout)}

    assert "gclf_runtime" in loaded
    assert not loaded & {"torch", "torchvision", "onnx", "onnxruntime", "numpy", "typer", "rich"}


def test_a_prediction_loads_no_torch(colours: Path):
    program = (
        "import sys, numpy as np; from gclf_runtime import Classifier;"
        f"Classifier({str(colours)!r}).predict(np.zeros((1, 16, 16, 3), np.uint8));"
        "print(*sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert not {"torch", "torchvision", "onnx"} & set(run.stdout.split())


def test_only_session_imports_onnxruntime_and_only_cli_prints_or_exits():
    """The bar of screen.py is the one exception: rich draws it itself."""
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported: set[str] = set()
        called: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.Call):
                called.add(ast.unparse(node.func))
        prints = {"print", "exit", "sys.exit", "os._exit", "sys.stdout.write", "sys.stderr.write"}
        assert "onnxruntime" not in imported or path.name == "session.py"
        assert path.name in ("cli.py", "options.py") or not imported & {"typer", "argparse"}
        assert path.name == "screen.py" or "rich" not in imported
        assert path.name in ("cli.py", "__main__.py") or not called & prints


def test_a_prediction_leaves_nothing_in_the_home_folder(colours: Path, tmp_path: Path):
    """Without being told not to, onnxruntime keeps a device id and a queue of events there."""
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    program = f"from gclf_runtime import Classifier; Classifier({str(colours)!r}, device='cpu')"
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)

    assert list(tmp_path.iterdir()) == []
