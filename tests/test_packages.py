import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What each package may import of the others: export -> trainer -> runtime, export -> runtime.
ARROWS = {
    "gclf_runtime": set[str](),
    "gclf_trainer": {"gclf_runtime"},
    "gclf_export": {"gclf_runtime", "gclf_trainer"},
}


def imported(package: str) -> set[str]:
    names: set[str] = set()
    for path in (ROOT / package.removeprefix("gclf_") / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", ARROWS)
def test_packages_import_each_other_along_the_arrows_only(package: str):
    assert imported(package) & set(ARROWS) - {package} <= ARROWS[package]


@pytest.mark.parametrize("package", ["gclf_trainer", "gclf_export"])
def test_the_public_names_are_sorted_and_there(package: str):
    pytest.importorskip("torch")
    module = importlib.import_module(package)

    assert module.__all__ == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)
