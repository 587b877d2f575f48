import csv
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import typer.main
from PIL import Image

from gclf_runtime.cli import app

COMMAND = str(Path(sys.executable).with_name("gclf-infer"))


def infer(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, a broken one, a text and a hidden file."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (30, 30), (250, 0, 0)).save(folder / "a.png")
    Image.new("RGB", (30, 30), (0, 0, 250)).save(folder / "c.jpg")
    (folder / "b.jpg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "notes.txt").write_text("no picture", encoding="utf-8")
    (folder / ".hidden.png").touch()
    return folder


def test_pictures_are_answered_with_their_best_classes(folder: Path, colours: Path):
    run = infer(folder / "a.png", "--model", colours, "--top-k", 2)

    assert run.returncode == 0
    assert run.stdout.startswith("red    100.0%  ")
    assert "a.png" in run.stdout
    assert "green 0.0%" in run.stdout
    assert "blue" not in run.stdout
    assert "1 file: 1 red" in run.stderr
    assert "CPUExecutionProvider" in run.stderr


def test_a_picture_that_fails_has_its_line_and_the_exit_code(folder: Path, colours: Path):
    run = infer(folder / "a.png", folder / "b.jpg", folder / "absent.jpg", "--model", colours)

    assert run.returncode == 3
    lines = run.stdout.splitlines()
    assert len(lines) == 3
    assert "damaged JPEG" in lines[1]
    assert "absent.jpg: no such file" in lines[2]


def test_a_batch_without_output_prints_a_line_per_file(folder: Path, colours: Path):
    run = infer("--batch", folder, "--model", colours)

    assert run.returncode == 3
    assert [line.split()[0] for line in run.stdout.splitlines()] == ["red", "error", "blue"]


def test_a_batch_writes_a_csv_row_per_file_and_a_summary(folder: Path, colours: Path):
    output = folder.parent / "out.csv"
    run = infer("--batch", folder, "--model", colours, "--output", output)

    assert run.returncode == 3
    assert run.stdout == ""
    rows = list(csv.DictReader(output.read_text(encoding="utf-8").splitlines()))
    assert [Path(row["path"]).name for row in rows] == ["a.png", "b.jpg", "c.jpg"]
    assert [row["label"] for row in rows] == ["red", "", "blue"]
    assert [row["error"] for row in rows] == ["", "corrupt", ""]
    assert "3 files: 1 blue, 1 red" in run.stderr
    assert "1 could not be read" in run.stderr
    assert "1 skipped: not an image" in run.stderr
    assert "1 skipped: hidden" in run.stderr


def test_a_batch_writes_json_lines(folder: Path, colours: Path):
    output = folder.parent / "out.jsonl"
    (folder / "b.jpg").unlink()
    run = infer("--batch", folder, "--model", colours, "--output", output)

    assert run.returncode == 0
    lines = output.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["red", "blue"]


def test_a_name_that_is_not_utf_8_keeps_its_bytes(folder: Path, colours: Path):
    strange = os.fsencode(folder) + b"/\xff.png"
    os.rename(folder / "a.png", strange)
    output = folder.parent / "out.csv"
    run = infer("--batch", folder, "--model", colours, "--output", output)

    assert run.returncode == 3
    assert strange in output.read_bytes()
    assert infer(os.fsdecode(strange), "--model", colours).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "absent.onnx", "a.png"], "error: no model at absent.onnx. Export one"),
        (["a.png", "--output", "out.txt"], "error: out.txt names no form of rows"),
        (["a.png", "--output", "absent/out.csv"], "error: absent/out.csv cannot be written"),
        (["--batch", "empty"], "error: no picture in empty"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path: Path, arguments: list[str], message: str):
    (tmp_path / "empty").mkdir()
    run = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, cwd=tmp_path)

    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(message)
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    "arguments",
    [[], ["a.png", "--batch", "."], ["--batch", "absent"], ["a.png", "--top-k", "0"], ["--no"]],
    ids=str,
)
def test_wrong_usage_exits_2(arguments: list[str]):
    assert infer(*arguments).returncode == 2


def test_an_older_output_survives_when_there_is_nothing_to_do(tmp_path: Path, colours: Path):
    (tmp_path / "empty").mkdir()
    output = tmp_path / "out.csv"
    output.write_text("older", encoding="utf-8")
    run = infer("--batch", tmp_path / "empty", "--model", colours, "--output", output)

    assert run.returncode == 1
    assert output.read_text(encoding="utf-8") == "older"


def test_a_name_cannot_forge_a_line_or_command_the_terminal(folder: Path, colours: Path):
    forged = folder / "x\nred    100.0%  y\x1b[2J.png"
    (folder / "a.png").rename(forged)
    run = infer(forged, "--model", colours)

    assert len(run.stdout.splitlines()) == 1
    assert "\x1b" not in run.stdout


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_terminal_of_another_encoding_loses_a_sign_and_no_more(
    folder: Path, colours: Path, encoding: str
):
    run = subprocess.run(
        [COMMAND, str(folder / "a.png"), "--model", str(colours)],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )

    assert run.returncode == 0
    assert run.stdout.startswith(b"red    100.0%")


def test_answers_that_cannot_be_printed_are_one_line(folder: Path, colours: Path):
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [COMMAND, str(folder / "a.png"), "--model", str(colours)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert run.returncode == 1
    assert run.stderr.startswith("error: the answers cannot be written (No space left on device)")
    assert len(run.stderr.splitlines()) == 1


def test_a_full_disk_is_one_line_and_not_a_success(folder: Path, colours: Path):
    full = folder.parent / "out.csv"
    full.symlink_to("/dev/full")
    run = infer("--batch", folder, "--model", colours, "--output", full)

    assert run.returncode == 1
    assert "No space left on device" in run.stderr.splitlines()[-1]


def rows_of(output: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(output.read_text(encoding="utf-8").splitlines()))


def test_rows_go_to_standard_output_and_nothing_else_does(folder: Path, colours: Path):
    run = infer("--batch", folder, "--model", colours, "--output", "-")
    rows = list(csv.DictReader(run.stdout.splitlines()))
    as_json = infer("--batch", folder, "--model", colours, "--output", "-", "--format", "jsonl")

    assert [row["label"] for row in rows] == ["red", "", "blue"]
    assert "3 files" in run.stderr
    assert [json.loads(line)["label"] for line in as_json.stdout.splitlines()] == [
        "red",
        None,
        "blue",
    ]


def test_the_options_of_a_row_reach_it(folder: Path, colours: Path):
    output = folder.parent / "out.csv"
    options = ["--probabilities", "top", "--top-k", 2, "--logits", "--abstain", 0.9999]
    infer("--batch", folder, "--model", colours, "--output", output, *options)

    red, _, blue = rows_of(output)
    assert list(red)[5:9] == ["label_1", "probability_1", "label_2", "probability_2"]
    assert list(red)[9:] == ["z:red", "z:green", "z:blue"]
    assert float(red["z:red"]) == pytest.approx(250 / 25.5, abs=1e-4)
    assert [red["label"], blue["label"]] == ["unknown", "unknown"]
    assert [red["label_1"], blue["label_1"]] == ["red", "blue"]


def test_parquet_says_what_csv_says(folder: Path, colours: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, the extra `parquet`")
    os.rename(folder / "a.png", os.fsencode(folder) + b"/\xff.png")
    for name in ("out.parquet", "out.csv"):
        infer("--batch", folder, "--model", colours, "--output", folder.parent / name, "--logits")
    table = parquet.read_table(folder.parent / "out.parquet")
    text = (folder.parent / "out.csv").read_text(encoding="utf-8", errors="backslashreplace")
    rows = list(csv.DictReader(text.splitlines()))

    assert table.column_names == list(rows[0])
    for record, row in zip(table.to_pylist(), rows, strict=True):
        for name, value in record.items():
            if isinstance(value, float):
                assert f"{value:.6f}" == row[name]
            else:
                assert (value or "") == row[name].replace("\\xff", "\\udcff")
    assert json.loads(table.schema.metadata[b"gclf.run"])["format"] == "parquet"
    assert sorted(path.name for path in folder.parent.iterdir()) == [
        "out.csv",
        "out.csv.run.json",
        "out.parquet",
        "pictures",
    ]


def test_pictures_are_sorted_into_class_folders_and_stay_where_they_are(
    folder: Path, colours: Path
):
    target = folder.parent / "sorted"
    infer("--batch", folder, "--model", colours, "--sort-into", target, "--abstain", 0.5)

    found = sorted(str(path.relative_to(target)) for path in target.rglob("*.*"))
    assert found == ["blue/c.jpg", "red/a.png"]
    assert (target / "red" / "a.png").read_bytes() == (folder / "a.png").read_bytes()
    inside = infer("--batch", folder, "--model", colours, "--sort-into", folder / "x")
    assert inside.returncode == 2


def test_a_report_is_a_page_with_the_pictures(folder: Path, colours: Path):
    page = folder.parent / "report.html"
    run = infer("--batch", folder, "--model", colours, "--report", page)
    html = page.read_text(encoding="utf-8")

    assert f"report: {page}" in run.stderr
    assert html.count("data:image/png;base64,") == 2
    assert "damaged JPEG" in html


@pytest.mark.parametrize(
    ("limit", "code"),
    [("0", 1), ("1", 0), ("20%", 1), ("40%", 0), ("x", 2), ("101%", 2), ("-1", 2)],
)
def test_more_failures_than_allowed_stop_the_run(
    folder: Path, colours: Path, limit: str, code: int
):
    output = folder.parent / "out.csv"
    arguments = ["--batch", folder, "--model", colours, "--output", output]
    run = infer(*arguments, "--max-failures", limit)

    assert run.returncode == code
    if code == 1:
        assert run.stderr.startswith("error: 1 of ")
        assert len(rows_of(output)) >= 2
        assert infer(*arguments, "--resume").returncode == 3
        assert len(rows_of(output)) == 3


def test_a_limit_on_pixels_may_be_moved(folder: Path, colours: Path):
    run = infer(folder / "a.png", "--model", colours, "--max-pixels", 899)

    assert run.returncode == 3
    assert "900 pixels in memory, the limit is 899" in run.stdout


def test_all_files_have_a_row_when_asked_for(folder: Path, colours: Path):
    output = folder.parent / "out.csv"
    infer("--batch", folder, "--model", colours, "--output", output, "--all-files")

    errors = {Path(row["path"]).name: row["error"] for row in rows_of(output)}
    assert errors == {
        ".hidden.png": "empty",
        "a.png": "",
        "b.jpg": "corrupt",
        "c.jpg": "",
        "notes.txt": "unsupported",
    }


def test_paths_come_from_standard_input_and_members_from_an_archive(folder: Path, colours: Path):
    listed = subprocess.run(
        [COMMAND, "-", "--model", str(colours), "--output", "-"],
        input=f"{folder}/c.jpg\n{folder}/a.png\n",
        capture_output=True,
        text=True,
    )
    with tarfile.open(folder.parent / "shard.tar", "w") as archive:
        archive.add(folder, "x")
    members = infer(folder.parent / "shard.tar", "--model", colours, "--output", "-")

    assert [row["label"] for row in csv.DictReader(listed.stdout.splitlines())] == ["blue", "red"]
    paths = [row["path"] for row in csv.DictReader(members.stdout.splitlines())]
    assert sorted(paths) == [
        f"{folder.parent}/shard.tar/x/{n}" for n in ("a.png", "b.jpg", "c.jpg")
    ]


def test_a_run_goes_on_only_as_it_was_begun(folder: Path, colours: Path):
    output = folder.parent / "out.csv"
    arguments = ["--batch", folder, "--model", colours, "--output", output]
    infer(*arguments)
    whole = output.read_bytes()
    other = infer(*arguments, "--resume", "--abstain", 0.5)
    moved = infer(*arguments, "--resume", "--sort-into", folder.parent / "sorted")

    assert other.returncode == 1
    assert "was begun otherwise (abstain was 0.0 and is 0.5)" in other.stderr
    assert moved.returncode == 1
    assert "sort_into was None and is" in moved.stderr
    assert output.read_bytes() == whole


def test_a_resumed_run_keeps_the_rows_that_are_there(folder: Path, colours: Path):
    output = folder.parent / "out.csv"
    arguments = ["--batch", folder, "--model", colours, "--output", output, "--batch-size", 1]
    infer(*arguments)
    whole = output.read_bytes()
    output.write_bytes(whole[:-5])
    run = infer(*arguments, "--resume")

    assert run.returncode == 3
    assert "2 rows were there already" in run.stderr
    assert "3 files: 1 blue, 1 red" in run.stderr
    assert output.read_bytes() == whole


def test_inputs_that_changed_are_not_taken_for_the_old_ones(folder: Path, colours: Path):
    output = folder.parent / "out.csv"
    arguments = ["--batch", folder, "--model", colours, "--output", output, "--batch-size", 1]
    infer(*arguments)
    whole = output.read_bytes()
    (folder / "a.png").rename(folder / "aa.png")
    run = infer(*arguments, "--resume")

    assert run.returncode == 1
    assert f"row 1 is {folder}/a.png, the input has {folder}/aa.png" in run.stderr
    assert output.read_bytes() == whole


def test_a_model_is_pinned_by_its_digest(folder: Path, colours: Path):
    digest = hashlib.sha256(colours.read_bytes()).hexdigest()
    right = infer(folder / "a.png", "--model", colours, "--model-sha256", digest)
    wrong = infer(folder / "a.png", "--model", colours, "--model-sha256", "0" * 64)

    assert right.returncode == 0
    assert wrong.returncode == 1
    assert f"its sha256 is {digest}" in wrong.stderr


def test_the_self_test_replays_what_the_model_carries(colours: Path):
    embedded, without = infer("--self-test"), infer("--self-test", "--model", colours)

    assert embedded.returncode == 0
    assert embedded.stdout.splitlines()[-1].startswith("passed: at most 0.0")
    assert without.returncode == 1
    assert "carries no pictures to replay" in without.stderr


def test_the_doctor_speaks_to_people_and_to_machines():
    text, as_json = infer("--doctor"), infer("--doctor", "--json")
    record = json.loads(as_json.stdout)

    assert text.returncode == as_json.returncode == 0
    assert record["providers"]["cpu"]["started"] == "CPUExecutionProvider"
    assert record["problems"] == []
    assert record["model"]["sha256"] in text.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.png", "--resume"],
        ["a.png", "--batch-size", "0"],
        ["a.png", "--abstain", "1.5"],
        ["--batch", ""],
        ["a.png", "--output", "o.csv", "--resume", "--report", "r.html"],
        ["a.png", "--output", "o.csv", "--top-k", "2"],
        ["a.png", "--link"],
        ["a.png", "--abstain", "nan"],
        ["a.png", "--output", "-", "--format", "parquet"],
        ["a.png", "--output", "r.csv", "--report", "r.csv"],
        ["a.png", "--json"],
        ["a.png", "--processes=-1"],
        ["a.png", "--report", "absent/r.html"],
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_wrong_usage(arguments: list[str]):
    assert infer(*arguments).returncode == 2


def test_every_option_and_exit_code_says_what_it_means():
    command = typer.main.get_command(app)
    unsaid = [p.name for p in command.params if not (getattr(p, "help", None) or p.name == "help")]
    text = " ".join(infer("--help").stdout.split())

    assert not unsaid
    for code in ("0 every input", "1 stopped", "2 wrong usage", "3 finished", "130 and 143"):
        assert code in text


def test_a_row_follows_its_input_while_the_source_is_slow(folder: Path, colours: Path):
    run = subprocess.Popen(
        [COMMAND, "-", "--model", str(colours), "--output", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert run.stdin
    assert run.stdout
    run.stdin.write(f"{folder}/a.png\n")
    run.stdin.flush()
    lines = [run.stdout.readline(), run.stdout.readline()]  # waits for ever if it does not hold
    run.communicate()

    assert lines[1].startswith(f"{folder}/a.png,red")


def test_an_input_is_never_an_output(folder: Path, colours: Path):
    listing = folder.parent / "list.txt"
    listing.write_text(f"{folder}/a.png\n", encoding="utf-8")
    page = infer(folder / "a.png", "--model", colours, "--report", folder / "a.png")
    rows = infer(listing, "--model", colours, "--output", listing, "--format", "csv")

    assert [page.returncode, rows.returncode] == [2, 2]
    assert listing.read_text(encoding="utf-8") == f"{folder}/a.png\n"
    assert (folder / "a.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("source", ["tree/red", "tree/**/*.png", "tree"])
def test_copies_do_not_go_where_pictures_are_read(
    folder: Path, colours: Path, source: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "tree" / "red").mkdir(parents=True)
    (folder / "a.png").rename(folder.parent / "tree" / "red" / "a.png")
    run = infer(source, "--model", colours, "--sort-into", "tree")

    assert run.returncode == 2
    assert "share files" in " ".join(run.stderr.split()).replace("│ ", "")


def test_two_runs_do_not_write_one_file(folder: Path, colours: Path):
    output = folder.parent / "out.csv"
    first = subprocess.Popen(
        [COMMAND, "-", "--model", str(colours), "--output", str(output)],
        stdin=subprocess.PIPE,
        text=True,
    )
    assert first.stdin
    first.stdin.write(f"{folder}/a.png\n")
    first.stdin.flush()
    while not (output.exists() and output.read_bytes().count(b"\n") == 2):
        time.sleep(0.02)
    second = infer("--batch", folder, "--model", colours, "--output", output)
    first.communicate()

    assert second.returncode == 1
    assert "is being written by another run" in second.stderr
    assert [row["label"] for row in rows_of(output)] == ["red"]


def test_what_cannot_be_sorted_stops_nothing_and_is_counted(folder: Path, colours: Path):
    with tarfile.open(folder.parent / "shard.tar", "w") as archive:
        archive.add(folder / "a.png", f"{'long' * 80}.png")
        archive.add(folder / "c.jpg", "c.jpg")
    target = folder.parent / "sorted"
    run = infer(folder.parent / "shard.tar", "--model", colours, "--sort-into", target)

    assert run.returncode == 3
    assert "1 have an answer and could not be sorted" in run.stderr
    assert [path.name for path in target.rglob("*.*")] == ["c.jpg"]


def test_rows_inside_the_folder_are_no_inputs_of_their_own(folder: Path, colours: Path):
    output = folder / "out.csv"
    arguments = ["--batch", folder, "--model", colours, "--output", output, "--all-files"]
    infer(*arguments)
    whole = output.read_bytes()
    run = infer(*arguments, "--resume")

    assert run.returncode == 3
    assert output.read_bytes() == whole


@pytest.mark.parametrize("option", ["--output", "--report"])
def test_a_picture_that_is_read_is_not_written_over(folder: Path, colours: Path, option: str):
    before = (folder / "a.png").read_bytes()
    arguments = ["--batch", folder, "--model", colours, option, folder / "a.png"]
    run = infer(*arguments, *(["--format", "csv"] if option == "--output" else []))

    assert run.returncode == 2
    assert (folder / "a.png").read_bytes() == before


def test_rows_in_the_folder_that_is_read_can_be_resumed(folder: Path, colours: Path):
    (folder.parent / "link").symlink_to(folder)
    output = folder.parent / "link" / "b.csv"
    arguments = ["--batch", folder, "--model", colours, "--output", output, "--all-files"]
    options = ["--batch-size", 1]
    infer(*arguments, *options)
    whole = output.read_bytes()
    output.write_bytes(whole[:-10])
    run = infer(*arguments, *options, "--resume")

    assert run.returncode == 3
    assert output.read_bytes() == whole
    assert "b.csv" not in output.read_text(encoding="utf-8")


def test_a_finished_parquet_file_is_resumed_only_as_it_was_made(folder: Path, colours: Path):
    pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, the extra `parquet`")
    output = folder.parent / "out.parquet"
    arguments = ["--batch", folder, "--model", colours, "--output", output]
    infer(*arguments)
    whole = output.read_bytes()
    other = infer(*arguments, "--resume", "--abstain", 0.9)
    same = infer(*arguments, "--resume")

    assert [other.returncode, same.returncode] == [1, 3]
    assert "abstain was 0.0 and is 0.9" in other.stderr
    assert output.read_bytes() == whole


def test_a_device_named_as_the_page_stays_a_device(folder: Path, colours: Path):
    page = folder.parent / "page.html"
    page.symlink_to("/dev/full")
    run = infer(folder / "a.png", "--model", colours, "--report", page)

    assert run.returncode == 1
    assert "No space left on device" in run.stderr
    assert page.is_symlink()
    assert Path("/dev/full").is_char_device()


def test_a_message_commands_no_terminal(colours: Path, tmp_path: Path):
    run = infer(f"{tmp_path}/no\x1b[31m\n*.jpg", "--model", colours)

    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1
    assert "\x1b" not in run.stderr


def test_a_picture_on_standard_input_is_no_list_of_paths(folder: Path, colours: Path):
    with (folder / "a.png").open("rb") as picture:
        run = subprocess.run(
            [COMMAND, "-", "--model", str(colours)], stdin=picture, capture_output=True, text=True
        )

    assert run.returncode == 1
    assert "standard input is a picture" in run.stderr


def test_a_folder_of_thousands_has_the_rows_that_one_thread_writes(folder: Path, colours: Path):
    many = folder.parent / "many"
    many.mkdir()
    for number in range(1100):  # so many that worker processes start with the command
        os.link(folder / ("a.png", "b.jpg", "c.jpg")[number % 3], many / f"{number:04}.jpg")
    together, alone = folder.parent / "together.csv", folder.parent / "alone.csv"

    first = infer("--batch", many, "--model", colours, "--output", together, "--processes", 2)
    second = infer("--batch", many, "--model", colours, "--output", alone, "--threads", 1)

    assert (first.returncode, second.returncode) == (3, 3)
    assert together.read_bytes() == alone.read_bytes()
    assert len(together.read_text().splitlines()) == 1101


def test_an_error_never_stands_among_the_rows_where_stderr_is_closed(folder: Path):
    command = [COMMAND, str(folder / "a.png"), "--model", str(folder / "absent.onnx")]
    run = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *command], stdout=subprocess.PIPE)

    assert (run.returncode, run.stdout) == (1, b"")


def test_what_cannot_be_written_at_the_end_is_not_called_done():
    with open("/dev/full", "w") as full:
        run = subprocess.run([COMMAND, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)

    assert run.returncode == 1
    assert "No space left" in run.stderr


def test_a_full_stderr_changes_neither_rows_nor_exit_code(folder: Path, colours: Path):
    output = folder.parent / "rows.csv"
    command = [COMMAND, "--batch", str(folder), "--model", str(colours), "--output", str(output)]
    with open("/dev/full", "w") as full:
        run = subprocess.run(command, stderr=full)

    assert run.returncode == 3
    assert len(output.read_text().splitlines()) == 4
