import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from gclf_runtime import SourceError
from gclf_runtime.formats import has_image_suffix, sniff
from gclf_runtime.items import below
from gclf_runtime.sources import Item, Skipped, find_images, open_sources

PNG = b"\x89PNG\r\n\x1a\n"


def tree(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def names(folder: Path, skipped: Skipped | None = None) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_images(folder, skipped)]


def test_pictures_are_found_by_suffix_or_by_first_bytes(tmp_path: Path):
    tree(tmp_path, a_JPG=b"", b=PNG, c_txt=PNG, d_txt=b"text", e_jpg=b"text", f=b"")
    skipped = Skipped()

    assert names(tmp_path, skipped) == ["a.JPG", "b", "c.txt", "e.jpg"]
    assert skipped == Skipped(not_images=2)


def test_folders_are_entered_in_the_order_of_their_names(tmp_path: Path):
    tree(tmp_path, b_png=PNG, a__z_png=PNG, c__a_png=PNG, a__y__x_png=PNG)

    assert names(tmp_path) == ["a/y/x.png", "a/z.png", "b.png", "c/a.png"]


def test_hidden_files_and_folders_are_counted_and_not_entered(tmp_path: Path):
    tree(tmp_path, _a_png=PNG, _git__b_png=PNG, c_png=PNG)
    skipped = Skipped()

    assert names(tmp_path, skipped) == ["c.png"]
    assert skipped == Skipped(hidden=2)


def test_links_are_followed_but_never_in_a_circle(tmp_path: Path):
    tree(tmp_path, a__b_png=PNG)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "a")
    (tmp_path / "itself.png").symlink_to(tmp_path / "itself.png")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")

    assert names(tmp_path) == ["a/b.png", "again/b.png", "itself.png"]


def test_deep_folders_are_listed_to_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    depth = 1200  # more than Python calls within calls
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    Path("a.png").touch()

    found = names(tmp_path)

    os.unlink("a.png")  # pytest's own cleaning would go too deep
    for _ in range(depth):
        os.chdir("..")
        os.rmdir("d")
    assert len(found) == 1


def test_what_is_no_file_is_an_input_only_by_its_suffix(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    os.mkfifo(tmp_path / "fifo.png")

    assert names(tmp_path) == ["fifo.png"]


def test_names_that_are_not_utf_8_are_found(tmp_path: Path):
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png"))).write_bytes(PNG)

    assert names(tmp_path) == ["\udcff\udcfe.png"]


def test_an_empty_folder_holds_nothing_and_an_absent_one_is_an_error(tmp_path: Path):
    assert names(tmp_path) == []
    with pytest.raises(SourceError, match="cannot be listed"):
        names(tmp_path / "absent")


def test_all_files_takes_what_is_hidden_or_no_image_too(tmp_path: Path):
    tree(tmp_path, _a_png=PNG, _git__b_txt=b"", c_txt=b"text", d_png=PNG)
    os.mkfifo(tmp_path / "fifo")
    skipped = Skipped()

    found = [path.name for path in find_images(tmp_path, skipped, all_files=True)]

    assert found == [".a.png", "b.txt", "c.txt", "d.png", "fifo"]
    assert skipped == Skipped()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_counted(tmp_path: Path):
    tree(tmp_path, a__b_png=PNG, c_png=PNG)
    (tmp_path / "a").chmod(0)
    skipped = Skipped()

    found = names(tmp_path, skipped)

    (tmp_path / "a").chmod(0o700)
    assert (found, skipped) == (["c.png"], Skipped(unreadable_folders=1))


def test_a_folder_with_a_path_too_long_for_the_system_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for _ in range(20):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    skipped = Skipped()

    found = names(tmp_path, skipped)

    for _ in range(20):
        os.chdir("..")
        os.rmdir("d" * 250)
    assert (found, skipped) == ([], Skipped(unreadable_folders=1))


def test_a_file_that_vanishes_after_the_listing_is_an_input(tmp_path: Path):
    tree(tmp_path, a_png=PNG, b_png=PNG)

    found = find_images(tmp_path)
    first = next(found)
    (tmp_path / "b.png").unlink()

    assert [first.name, *(path.name for path in found)] == ["a.png", "b.png"]


@pytest.mark.parametrize("count", [0, 1, 2, 4097])
def test_any_number_of_files_comes_sorted_by_name(tmp_path: Path, count: int):
    expected = sorted(f"{number * 7919 % 10007} \u00e9.png" for number in range(count))
    for name in reversed(expected):
        (tmp_path / name).touch()

    assert names(tmp_path) == expected


def test_a_listed_file_costs_forty_bytes_of_memory_at_most(tmp_path: Path):
    def peak(count: int) -> int:
        for number in range(count):
            (tmp_path / f"picture_{number:06}.jpg").touch()
        tracemalloc.start()
        listed = sum(1 for _ in open_sources([str(tmp_path)], Skipped()))
        bytes_used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert listed == count
        return bytes_used

    few, many = peak(5_000), peak(25_000)

    assert (many - few) / 20_000 < 40


def items(*arguments: object, **options: object) -> list[Item]:
    return list(open_sources(map(str, arguments), Skipped(), **options))  # pyright: ignore[reportArgumentType]


def test_arguments_are_opened_in_the_order_given_and_as_often(tmp_path: Path):
    tree(tmp_path, a__b__c_png=PNG, d_png=PNG)
    folder, file = tmp_path / "a", tmp_path / "d.png"

    assert items(file, folder, file) == [
        Item(str(file)),
        Item(f"{folder}/b/c.png", None, "b/c.png"),
        Item(str(file)),
    ]


def test_a_file_that_is_named_is_an_input_whatever_it_is(tmp_path: Path):
    tree(tmp_path, a_doc=b"text", _b=b"", c_tar=PNG, d_txt=PNG)
    os.mkfifo(tmp_path / "fifo.tar")
    (tmp_path / "loop.zip").symlink_to(tmp_path / "loop.zip")
    named = ["a.doc", ".b", "c.tar", "d.txt", "fifo.tar", "loop.zip", "absent.png", "absent.txt"]

    assert items(*(tmp_path / name for name in named)) == [
        Item(str(tmp_path / name)) for name in named
    ]


def test_nothing_is_opened_before_its_turn(tmp_path: Path):
    tree(tmp_path, a_png=PNG)
    found = open_sources([str(tmp_path / "a.png"), str(tmp_path / "*.gif")], Skipped())

    assert next(found) == Item(str(tmp_path / "a.png"))
    with pytest.raises(SourceError, match="no picture matches"):
        next(found)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["b.png", "c[1].png"]),
        ("?.png", ["b.png"]),
        ("[!b]*.png", ["c[1].png"]),
        ("*", ["b.png", "c[1].png", "d"]),
        ("*/*.png", ["a/e.png"]),
        ("**/*.png", ["a/e.png", "a/f/g.png", "b.png", "c[1].png"]),
        ("a/**", ["a/e.png", "a/f/g.png"]),
        ("**/f/**/*", ["a/f/g.png"]),
        ("a/*/", ["a/f/g.png"]),
        (".*", [".h.png"]),
        ("*/.i/*", ["a/.i/j.png"]),
        ("c[1].png", ["c[1].png"]),
    ],
)
def test_a_pattern_is_matched_as_in_a_shell(tmp_path: Path, pattern: str, expected: list[str]):
    tree(tmp_path, a__e_png=PNG, a__f__g_png=PNG, b_png=PNG, _h_png=PNG, a___i__j_png=PNG)
    tree(tmp_path, d=PNG, k_txt=b"text")
    (tmp_path / "c[1].png").touch()

    found = items(tmp_path / pattern) if pattern[-1] != "/" else items(f"{tmp_path}/{pattern}")

    assert [item.name.removeprefix(f"{tmp_path}/") for item in found] == expected


def test_a_pattern_counts_what_it_leaves_out_and_names_what_is_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tree(tmp_path, a__b_png=PNG, a__c_txt=b"text", a___d_png=PNG, e_png=PNG)
    monkeypatch.chdir(tmp_path)
    skipped = Skipped()

    assert list(open_sources(["a/*"], skipped)) == [Item("a/b.png", None, "b.png")]
    assert skipped == Skipped(hidden=1, not_images=1)
    assert items("*/b.png") == [Item("a/b.png", None, "a/b.png")]


@pytest.mark.parametrize("pattern", ["*.gif", "absent/*", "a.png/*", "[", "**/*.gif"])
def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path, pattern: str):
    tree(tmp_path, a_png=PNG)

    with pytest.raises(SourceError, match="Check the pattern"):
        items(tmp_path / pattern)


def test_a_pattern_with_the_suffix_of_a_list_opens_each_match(tmp_path: Path):
    tree(tmp_path, a_txt=b"1.png\n", b_txt=b"2.png\n", c_png=PNG)

    assert [item.name for item in items(tmp_path / "*.txt")] == ["1.png", "2.png"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"a.png", ["a.png"]),
        (b"a.png\nb c.png\n\n", ["a.png", "b c.png"]),
        (b"\xef\xbb\xbfa.png\r\nb.png\r\n", ["a.png", "b.png"]),
        (b"a\n.png\0b\r\0", ["a\n.png", "b\r"]),
        (b"\xff.png\n", ["\udcff.png"]),
        (b"a" * 40_000 + b"\n" + b"b" * 40_000, ["a" * 40_000, "b" * 40_000]),
    ],
    ids=["empty", "no line end", "lines", "windows", "NULs", "not utf-8", "longer than a block"],
)
def test_a_list_names_one_file_per_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, expected: list[str]
):
    tree(tmp_path, paths_txt=content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))

    assert [item.name for item in items(tmp_path / "paths.txt")] == expected
    assert [item.name for item in items("-")] == expected


def test_a_list_without_lines_is_an_error(tmp_path: Path):
    tree(tmp_path, model_list=bytes([1]) * 200_000)

    with pytest.raises(SourceError, match="one path per line"):
        items(tmp_path / "model.list")


def test_standard_input_is_read_as_it_arrives():
    program = (
        "import sys; from gclf_runtime.sources import open_sources, Skipped\n"
        "for item in open_sources(['-'], Skipped()): print(item.name, flush=True)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with run:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(b"a.png\nb")
        run.stdin.flush()
        first = run.stdout.readline()
        run.stdin.write(b".png")
        run.stdin.close()
        assert (first, run.stdout.read()) == (b"a.png\n", b"b.png\n")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.png", "a/b.png"),
        ("./a//b.png", "a/b.png"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("a\0b", "ab"),
        ("..", ""),
    ],
)
def test_a_name_from_elsewhere_stays_below_the_folder_it_is_joined_to(name: str, expected: str):
    assert below(name) == expected


def test_what_only_some_sources_need_is_not_imported_for_the_others():
    program = "import sys, gclf_runtime.sources; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    loaded = run.stdout.decode().split()
    assert not {"tarfile", "zipfile", "pyarrow", "fsspec", "concurrent.futures.thread"} & set(
        loaded
    ) - set(_loaded_by_the_package())


def _loaded_by_the_package() -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", "import sys, gclf_runtime; print(*sys.modules)"],
        capture_output=True,
        check=True,
    )
    return run.stdout.decode().split()


@pytest.mark.parametrize(
    ("head", "format"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (PNG, "PNG"),
        (b"GIF89a", "GIF"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WEBP"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"BM" + bytes(12) + b"\x28\0\0\0", "BMP"),
        (b"BMW is a maker of cars", None),
        (b"P6\n1 1\n255\n", "PNM"),
        (b"P2P network", None),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"\0\0\0\x1cftypmp42", None),
        (b"", None),
    ],
)
def test_first_bytes_name_the_format(head: bytes, format: str | None):
    assert sniff(head) == format


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.b.webp", ".png", "a.tiff", "a.svg"])
def test_suffixes_of_image_formats_count(name: str):
    assert has_image_suffix(name)


@pytest.mark.parametrize("name", ["jpg", "a.jpg.txt", "a.", "a", "a.mp4"])
def test_other_names_do_not(name: str):
    assert not has_image_suffix(name)
