import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import onnx
import torch

from gclf_export import ExportError, export, export_all, reference
from gclf_runtime import Classifier, ModelError, images
from gclf_runtime.model_file import read_model
from gclf_trainer import CheckpointError, checkpoint
from gclf_trainer.errors import DatasetError


def validation_images(run: Path) -> list[str]:
    listing = (run / "validation.csv").read_text(encoding="utf-8").splitlines()[1:]
    return [row.split(",")[0] for row in listing]


def test_the_exported_file_answers_as_the_checkpoint_does(run: Path, exported: Path):
    paths = validation_images(run)
    trained = checkpoint.load(run / "model.pt")
    expected = reference.answer(trained, paths, lambda path: Path(path).read_bytes())

    answers = np.stack([p.probabilities_k for p in Classifier(exported).predict_images(paths)])

    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-5)


def test_the_certificate_counts_every_validation_picture(run: Path, tmp_path: Path):
    result = export(run / "model.pt", tmp_path / "m.onnx")
    rows = (run / "validation.csv").read_text(encoding="utf-8").splitlines()[1:]
    right = sum(row.split(",")[1] == row.split(",")[2] for row in rows)
    rung = result.rungs[0]

    assert rung.provider == "CPUExecutionProvider"
    assert rung.count == len(rows) == 36
    assert rung.accuracy == rung.checkpoint_accuracy == right / len(rows)
    assert rung.accuracy_low < rung.accuracy <= rung.accuracy_high
    assert rung.agreement == rung.awkward_agreement == 1
    assert max(rung.max_difference, rung.awkward_max_difference) < 1e-5
    assert rung.milliseconds > 0
    assert result.size_bytes == (tmp_path / "m.onnx").stat().st_size


def test_the_certificate_travels_in_the_file(exported: Path):
    record = json.loads(Classifier(exported).metadata["gclf.certificate"])

    (rung,) = [rung for rung in record["rungs"] if rung["provider"] == "CPUExecutionProvider"]
    assert rung["precision"] == "fp32"
    assert rung["verdict"] == "certified"
    assert rung["awkward_count"] >= 25
    assert record["limits"]["max_drop"] == 0.005


def test_the_graph_is_the_contract_and_nothing_more(exported: Path):
    model = onnx.load(exported)
    operators = {node.op_type for node in model.graph.node}

    assert [(i.name, i.type.tensor_type.elem_type) for i in model.graph.input] == [("images", 2)]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch"
    assert [d.dim_value for d in dims[1:]] == [32, 32, 3]
    assert [o.name for o in model.graph.output] == ["probabilities", "logits"]
    assert not operators & {"Shape", "Gather", "Range", "Concat", "BatchNormalization", "Reshape"}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    assert not model.functions


def test_nothing_of_this_machine_is_in_the_file(exported: Path):
    content = exported.read_bytes()

    assert b"stack_trace" not in content
    assert str(Path(__file__).parent.parent.parent).encode() not in content
    assert b".py" not in content


def test_the_spec_says_where_the_file_comes_from(run: Path, exported: Path):
    spec = Classifier(exported).spec
    trained = checkpoint.load(run / "model.pt")

    assert spec.label_names == ("blue", "green", "red")
    assert spec.checkpoint_sha256 == trained.sha256
    assert spec.dataset_sha256 == trained.spec.dataset_sha256
    assert spec.license == "CC BY 4.0"
    assert spec.metrics["val_count"] == 36
    assert {"torch", "onnx", "gclf-trainer", "gclf-export"} <= set(spec.versions)
    assert spec.created.startswith("20")


def test_the_last_entry_is_the_digest_of_all_before_it(exported: Path):
    content, last = exported.read_bytes(), onnx.load(exported).metadata_props[-1]
    sealed = content.index(b"gclf.digest") - 4  # two bytes of its field, two of its key

    assert (last.key, last.value) == ("gclf.digest", hashlib.sha256(content[:sealed]).hexdigest())
    assert read_model(content, "m.onnx").digest == last.value


def test_a_file_that_another_program_wrote_anew_is_refused(exported: Path, tmp_path: Path):
    model = onnx.load(exported)
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, tmp_path / "m.onnx")

    with pytest.raises(ModelError, match="was changed after it was exported"):
        Classifier(tmp_path / "m.onnx")


def test_ultralytics_finds_the_names_it_looks_for(exported: Path):
    metadata = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}

    assert metadata["names"] == "{0: 'blue', 1: 'green', 2: 'red'}"


def test_the_golden_pictures_have_the_golden_answers(exported: Path):
    import base64

    metadata = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    golden = json.loads(metadata["gclf.golden"])
    encoded = [base64.b64decode(picture["image"]) for picture in golden["pictures"]]
    expected = np.array([picture["probabilities"] for picture in golden["pictures"]])

    answers = Classifier(exported).predict_images(encoded)

    assert len(encoded) >= 5
    np.testing.assert_allclose(
        np.stack([p.probabilities_k for p in answers]), expected, rtol=0, atol=golden["tolerance"]
    )


def test_pixels_of_any_onnx_client_get_the_same_answer(run: Path, exported: Path):
    import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]

    paths = validation_images(run)[:7]
    classifier = Classifier(exported)
    pixels = np.stack([images.load(path, classifier.spec.input) for path in paths])
    session: Any = ort.InferenceSession(exported, providers=["CPUExecutionProvider"])

    probabilities, logits = session.run(None, {"images": pixels})

    ours = np.stack([p.probabilities_k for p in classifier.predict(pixels)])
    np.testing.assert_allclose(probabilities, ours, rtol=0, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities, softmax, atol=1e-5)


def test_a_failed_export_leaves_the_old_file_and_nothing_else(run: Path, tmp_path: Path):
    for name in ("model.pt", "validation.csv"):
        shutil.copy(run / name, tmp_path)
    record = torch.load(tmp_path / "model.pt", weights_only=True)
    record["weights"]["classifier.bias"][:] = float("nan")
    torch.save(record, tmp_path / "model.pt")
    output = tmp_path / "out" / "m.onnx"
    output.parent.mkdir()
    output.write_bytes(b"the old file")

    with pytest.raises(ExportError, match="answers with numbers that are not finite"):
        export(tmp_path / "model.pt", output)

    assert output.read_bytes() == b"the old file"
    assert list(output.parent.iterdir()) == [output]


def test_moved_validation_pictures_have_a_remedy_that_works(run: Path, tmp_path: Path):
    moved = tmp_path / "run"
    moved.mkdir()
    shutil.copy(run / "model.pt", moved)

    with pytest.raises(ExportError, match=r"no validation\.csv .* --validation DIR"):
        export(moved / "model.pt")
    (moved / "validation.csv").write_text("path,label,predicted\nabsent.jpg,red,red\n")
    with pytest.raises(ExportError, match=r"1 of the 1 pictures .* are gone.* --validation DIR"):
        export(moved / "model.pt")
    result = export(moved / "model.pt", validation=run.parent / "pictures")
    assert result.rungs[0].count == 72
    with pytest.raises(DatasetError, match="no folder at"):
        export(moved / "model.pt", validation=tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExportError, match="holds no picture"):
        export(moved / "model.pt", validation=tmp_path / "empty")


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "path,label,predicted\nx.jpg,yellow,red\n"])
def test_a_foreign_listing_is_refused(run: Path, tmp_path: Path, content: str):
    shutil.copy(run / "model.pt", tmp_path)
    (tmp_path / "validation.csv").write_text(content, encoding="utf-8")

    with pytest.raises(ExportError, match="--validation DIR"):
        export(tmp_path / "model.pt")


def test_what_cannot_be_written_says_so(run: Path, tmp_path: Path):
    with pytest.raises(ExportError, match="is the checkpoint itself"):
        export(run / "model.pt", run / "model.pt")
    with pytest.raises(ExportError, match=r"no folder at .*absent\. Make it"):
        export(run / "model.pt", tmp_path / "absent" / "m.onnx")
    (tmp_path / "taken.onnx").mkdir()
    with pytest.raises(ExportError, match=r"taken\.onnx cannot be written"):
        export(run / "model.pt", tmp_path / "taken.onnx")


def test_an_absent_checkpoint_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(CheckpointError, match="gclf-train DATA --output RUN"):
        export(tmp_path / "model.pt")


def test_several_precisions_are_files_of_their_own(run: Path, exported: Path, tmp_path: Path):
    done = export_all(
        run / "model.pt", tmp_path / "m.onnx", precisions=["fp32", "int8", "bf16"], max_drop=0.1
    )
    whole, small = done.written

    assert [path.name for path in (whole.path, small.path)] == ["m.fp32.onnx", "m.int8.onnx"]
    assert small.size_bytes < whole.size_bytes / 3
    assert [Classifier(file.path).spec.precision for file in done.written] == ["fp32", "int8"]
    assert 0 < small.rungs[0].max_difference < 0.2
    operators = [node.op_type for node in onnx.load(small.path).graph.node]
    assert operators[:3] == ["Transpose", "DequantizeLinear", "DequantizeLinear"]
    assert not {"Cast", "Sub", "Div"} & set(operators)
    types = {i.data_type for i in onnx.load(small.path).graph.initializer}
    assert {onnx.TensorProto.INT8, onnx.TensorProto.UINT8} <= types
    assert {o.domain for o in onnx.load(small.path).opset_import} == {""}
    assert (
        "| **int8, this file** | CPUExecutionProvider |"
        in (tmp_path / "m.int8.card.md").read_text()
    )
    assert list(done.refused) == ["bf16"]
    assert not list(tmp_path.glob("*bf16*"))


def test_auto_is_one_file_that_says_why(run: Path, tmp_path: Path):
    shutil.copy(run / "model.pt", tmp_path)
    done = export_all(
        tmp_path / "model.pt",
        precisions=["auto"],
        max_drop=0.1,
        validation=run.parent / "pictures",
    )

    # Without training pictures there is no int8, and without a GPU no fp16.
    assert "calibration.csv" in done.certificate["refused"]["int8"]
    assert not done.refused
    cpu = [r for r in done.certificate["rungs"] if r["provider"] == "CPUExecutionProvider"]
    chosen = [r["precision"] for r in cpu if "auto: the fastest admitted on CPU" in r["verdict"]]
    assert chosen == ["fp32"]
    assert (tmp_path / "model.onnx").is_file() or len(done.written) > 1
    if len(cpu) == len(done.certificate["rungs"]):
        assert done.certificate["refused"]["fp16"].startswith("it is meant for CUDA, and ")
    assert done.certificate["refused"]["bf16"] == (
        "onnxruntime could not run it: it has no Conv in bf16 here"
    )


def test_a_precision_that_is_refused_leaves_the_old_file(run: Path, tmp_path: Path):
    output = tmp_path / "m.onnx"
    output.write_bytes(b"the old file")

    with pytest.raises(ExportError, match=r"bf16: .*Export fp32, or --precision auto"):
        export(run / "model.pt", output, precision="bf16")

    assert output.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [output]
