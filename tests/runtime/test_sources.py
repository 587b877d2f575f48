import os
from pathlib import Path

import pytest

from gclf_runtime import SourceError
from gclf_runtime.formats import has_image_suffix, sniff
from gclf_runtime.sources import Skipped, find_images

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
