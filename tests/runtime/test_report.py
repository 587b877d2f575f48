import base64
import io
import re
import tracemalloc
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from types import MappingProxyType

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gclf_runtime import FileResult, ImageError, Prediction
from gclf_runtime.sinks.report import Report

NAMES = ("cat", "dog")
VOID = {"meta", "link", "img"}
# What a file may be called, and what the page must say in its place.
HOSTILE = {
    "closing tags": ("</td></table><script>x()<!--", "</td></table><script>x()<!--"),
    "quotes": ("\"'><img src=x onerror=y()>", "\"'><img src=x onerror=y()>"),
    "entities": ("&lt;b&gt;", "&lt;b&gt;"),
    "not UTF-8": ("latin\udcff.jpg", "latin\\udcff.jpg"),
    "control characters": ("line\n\x1b[31m\x00.jpg", "line\\n\\x1b[31m\\x00.jpg"),
    "right to left": ("\u202egpj.exe", "\\u202egpj.exe"),
    "two spaces": ("two  spaces.jpg", "two  spaces.jpg"),
    "other scripts": ("日本語 שלום.jpg", "日本語 שלום.jpg"),
}


class Page(HTMLParser):
    """A page taken apart; a tag closed out of order fails."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._texts: list[tuple[tuple[str, ...], str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self._texts.append((tuple(self._open), data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def said(self, *tags: str) -> list[str]:
        """Return the texts whose innermost elements are these."""
        return [text for path, text in self._texts if path[-len(tags) :] == tags and text.strip()]

    @property
    def tiles(self) -> dict[str, str]:
        return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", self.html))

    @property
    def pictures(self) -> list[NDArray[np.uint8]]:
        data = [image["src"].removeprefix("data:image/png;base64,") for image in self.all("img")]
        return [np.array(Image.open(io.BytesIO(base64.b64decode(png)))) for png in data]

    @property
    def confidences(self) -> list[str]:
        """Of each picture's first line."""
        return self.said("span", "b")[::2]


def answer(
    path: str = "a.jpg",
    probability: float = 0.75,
    *,
    best: int = 0,
    names: tuple[str, ...] = NAMES,
    pixels_hwc: NDArray[np.uint8] | None = None,
) -> FileResult:
    rest = (1 - probability) / max(1, len(names) - 1)
    probabilities_k = np.full(len(names), rest, np.float32)
    probabilities_k[best] = probability
    return FileResult(path, Prediction(names, probabilities_k, probabilities_k), None, pixels_hwc)


def failure(path: str = "bad.jpg", reason: str = "zero bytes. Copy it again") -> FileResult:
    return FileResult(path, None, ImageError("empty", reason, name=path))


def noise(seed: int = 0, height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def page_of(
    results: Iterable[FileResult],
    names: tuple[str, ...] = NAMES,
    *,
    pictures_per_class: int = 120,
    failures: int = 1000,
    facts: Mapping[str, str] = MappingProxyType({}),
) -> Page:
    report = Report(names, pictures_per_class=pictures_per_class, failures=failures)
    for result in results:
        report.add(result)
    return Page(report.to_html(facts))


def many_names(count: int) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(count))


def test_counts_shares_and_means_are_right():
    cats = [answer(probability=0.75, best=0) for _ in range(6)]
    dogs = [answer(probability=1.0, best=1) for _ in range(2)]
    page = page_of([*dogs, failure(), *cats])

    assert page.tiles == {
        "files": "9",
        "answered": "8",
        "could not be read": "1",
        "mean confidence": "81.2%",
    }
    assert page.said("th", "a", "bdi") == ["cat", "dog"]
    assert page.said("td")[:6] == ["6", "75.0%", "75.0%", "2", "25.0%", "100.0%"]


def test_an_answer_given_another_label_counts_under_it():
    report = Report(NAMES)
    report.add(answer(probability=0.5), label="unknown")
    report.add(answer(probability=0.875))
    page = Page(report.to_html({}))

    assert page.tiles["answered"] == "1"
    assert page.tiles["<bdi>unknown</bdi>"] == "1"
    assert page.said("h3", "bdi") == ["unknown", "cat"]
    assert page.said("span", "bdi")[:2] == ["cat", "dog"]
    assert "No picture was answered dog." in page.html


@pytest.mark.parametrize(
    ("classes", "first", "bins"),
    [(1, "50", 20), (2, "50", 20), (3, "30", 14), (7, "10", 18), (100, "0", 20)],
)
def test_the_histogram_goes_from_chance_to_one(classes: int, first: str, bins: int):
    low = float(first) / 100
    probabilities = [low + (1 - low) * (index + 0.5) / bins for index in range(bins)]
    names = many_names(classes)
    page = page_of([answer(probability=p, names=names) for p in probabilities], names)

    bars = page.said("g", "title")
    assert len(bars) == bins
    assert bars[0].startswith(f"{first} to ")
    assert bars[-1].split(":")[0].endswith(" to 100%")
    assert {re.findall(r": (\d+) ", bar)[0] for bar in bars} == {"1"}


def test_a_probability_on_an_edge_is_in_the_upper_bin():
    page = page_of([answer(probability=p) for p in (0.525, 0.6, 0.95, 0.975, 1.0)])

    assert [bar.split(":")[0] for bar in page.said("g", "title")] == [
        "52.5 to 55%",
        "60 to 62.5%",
        "95 to 97.5%",
        "97.5 to 100%",
    ]
    assert page.said("g", "title")[-1] == "97.5 to 100%: 2 (cat 2)"


def test_bars_are_stacked_by_class_and_no_higher_than_the_axis():
    cats = [answer(best=0) for _ in range(7)]
    dogs = [answer(best=1) for _ in range(3)]
    page = page_of([*cats, *dogs])

    assert page.said("g", "title") == ["75 to 77.5%: 10 (cat 7, dog 3)"]
    bars = [r for r in page.all("rect") if r.get("class", "").startswith("series")]
    assert [bar["class"] for bar in bars] == ["series0", "series1"]
    heights = [float(bar["height"].rstrip("%")) for bar in bars]
    assert heights == pytest.approx([70, 30], abs=0.01)
    assert float(bars[1]["y"].rstrip("%")) == pytest.approx(0, abs=0.01)


def test_with_many_classes_the_histogram_has_one_colour():
    names = many_names(30)
    page = page_of([answer(names=names, best=best) for best in range(30)], names)

    assert page.said("li", "bdi") == ["30 classes"]
    assert page.said("g", "title") == ["75 to 80%: 30 (30 classes 30)"]


def test_a_picture_is_the_exact_pixels():
    pixels_hwc = noise(height=48, width=64)
    page = page_of([answer(pixels_hwc=pixels_hwc)])

    np.testing.assert_array_equal(page.pictures[0], pixels_hwc)
    assert (page.all("img")[0]["width"], page.all("img")[0]["height"]) == ("64", "48")
    assert "The exact 64×48 pixels" in page.html


def test_a_picture_is_what_it_was_when_added():
    batch_nhwc = np.stack([noise(1), noise(2)])
    report = Report(NAMES)
    report.add(answer(pixels_hwc=batch_nhwc[1]))
    batch_nhwc[:] = 0

    np.testing.assert_array_equal(Page(report.to_html({})).pictures[0], noise(2))


def test_the_least_confident_come_first_and_the_cut_is_stated():
    order = np.random.default_rng(0).permutation(50)
    results = [answer(f"{i}.jpg", 0.5 + i / 100, pixels_hwc=noise(i)) for i in order]
    page = page_of(results, pictures_per_class=4)

    assert page.confidences == ["50.0%", "51.0%", "52.0%", "53.0%"]
    assert page.said("figcaption", "bdi") == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert page.said("h3", "small") == ["the 4 least confident of 50"]
    for seed, picture in enumerate(page.pictures):
        np.testing.assert_array_equal(picture, noise(seed))


def test_of_equals_the_first_are_shown():
    page = page_of([answer(f"{i}.jpg") for i in range(9)], pictures_per_class=3)

    assert page.said("figcaption", "bdi") == ["0.jpg", "1.jpg", "2.jpg"]


def test_nothing_is_said_to_be_cut_where_nothing_is():
    page = page_of([answer(), answer(best=1), failure()])

    assert page.said("h3", "small") == ["all 1", "all 1"]
    assert page.said("h2", "small") == []


def test_each_class_has_its_own_pictures():
    dogs = [answer(f"dog{i}.jpg", 0.9, best=1) for i in range(2)]
    cats = [answer(f"cat{i}.jpg", 0.6) for i in range(3)]
    page = page_of([*dogs, *cats])

    assert page.said("h3", "bdi") == ["cat", "dog"]
    links = [link["href"] for link in page.all("a")]
    assert links == [f"#{section['id']}" for section in page.all("section") if "id" in section]
    assert page.confidences == ["60.0%"] * 3 + ["90.0%"] * 2


def test_memory_stays_the_same_however_many_are_added():
    report = Report(NAMES, pictures_per_class=5, failures=5)
    batch_nhwc = np.zeros((32, 64, 64, 3), np.uint8)
    picture_bytes = 64 * 64 * 3

    def add(count: int) -> int:
        for index in range(count):
            # Each less confident than the last: every one is taken in.
            probability = 1 - index / 2 / count
            name = f"{index:010000}"
            report.add(answer(name, probability, pixels_hwc=batch_nhwc[0]))
            report.add(failure(name, name))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        after_few = add(20)
        after_many = add(500)
    finally:
        tracemalloc.stop()

    assert after_many - after_few < picture_bytes
    assert after_many < 7 * picture_bytes  # five, and no name in full
    page = Page(report.to_html({}))
    assert len(page.pictures) == 5
    assert page.tiles["answered"] == "520"


def test_pictures_of_many_classes_share_the_room():
    names = many_names(300)
    pixels_hwc = np.zeros((128, 128, 3), np.uint8)  # 341 of them fill the room
    page = page_of(
        (
            answer(f"{n}.jpg", 0.9 - n / 100, names=names, best=best, pixels_hwc=pixels_hwc)
            for best in range(300)
            for n in range(3)
        ),
        names,
    )

    assert page.said("h3", "small") == ["the 1 least confident of 3"] * 300
    assert set(page.said("figcaption", "bdi")) == {"2.jpg"}


def test_pictures_too_large_for_the_page_are_counted():
    names = many_names(2)
    pixels_hwc = np.zeros((2048, 2048, 3), np.uint8)
    results = [answer(names=names, best=i, pixels_hwc=pixels_hwc) for i in (0, 1, 1)]
    page = page_of(results, names)

    assert page.said("h3", "small") == ["none of 2 shown", "none of 1 shown"]
    assert page.pictures == []


def test_failures_are_counted_by_kind_and_listed_with_their_reasons():
    missing = FileResult("gone.jpg", None, ImageError("missing", "no such file", name="gone.jpg"))
    page = page_of([missing, failure("a.jpg"), failure("b.jpg")])

    assert page.said("tr", "th")[-5:] == ["empty", "missing", "file", "kind", "reason"]
    assert page.said("td")[:2] == ["2", "1"]
    assert page.said("td", "bdi") == [
        *("gone.jpg", "no such file"),
        *("a.jpg", "zero bytes. Copy it again"),
        *("b.jpg", "zero bytes. Copy it again"),
    ]


def test_failures_past_the_limit_are_counted_and_the_cut_is_stated():
    page = page_of([failure(f"{i}.jpg") for i in range(1200)], failures=2)

    assert page.said("h2", "small") == ["the first 2 of 1,200 listed"]
    assert page.said("td", "bdi")[::2] == ["0.jpg", "1.jpg"]
    assert page.tiles["could not be read"] == "1,200"


def page_about(name: str) -> Page:
    """Return a page on which all that a run brings has this name."""
    names = (f"class {name}", "other")
    results = [answer(name, names=names, pixels_hwc=noise()), failure(name, f"damaged {name}")]
    return page_of(results, names, facts={f"fact {name}": f"value {name}"})


@pytest.mark.parametrize(("name", "shown"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_name_is_shown_and_breaks_nothing(name: str, shown: str):
    page = page_about(name)

    assert page.html.encode("utf-8")
    assert page.said("td", "bdi") == [f"value {shown}", shown, f"damaged {shown}"]
    assert page.said("th", "bdi") == [f"fact {shown}"]
    assert page.said("h3", "bdi") == [f"class {shown}"]
    assert page.said("g", "title") == [f"75 to 77.5%: 1 (class {shown} 1)"]
    assert [bdi["title"] for bdi in page.all("bdi") if "title" in bdi] == [shown]
    assert page.all("img")[0]["alt"].endswith(shown.rpartition("/")[2])
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in page_about("calm").elements]


def test_a_long_name_is_cut_in_its_middle():
    name = "folder/" + "x" * 10_000 + ".jpg"
    page = page_of([answer(name), failure(name)])

    listed = page.said("td", "bdi")[0]
    assert len(listed) == 301
    assert listed.startswith("folder/")
    assert "…" in listed
    assert listed.endswith(".jpg")
    assert len(page.html) < 20_000


@pytest.mark.parametrize("facts", [{}, {"model": "gender.onnx"}], ids=["no facts", "facts"])
@pytest.mark.parametrize(
    ("results", "classes"),
    [
        ([], 2),
        ([failure()], 2),
        ([answer(pixels_hwc=noise())], 2),
        ([answer(probability=1.0, names=("only",), pixels_hwc=noise())], 1),
        ([answer(names=many_names(100), best=i, pixels_hwc=noise(i)) for i in range(100)], 100),
        ([answer(pixels_hwc=noise()), answer(best=1), failure(), failure()], 2),
    ],
    ids=["nothing", "only failures", "one", "one class", "100 classes", "mixed"],
)
def test_a_page_is_whole_and_loads_nothing(
    results: list[FileResult], classes: int, facts: dict[str, str]
):
    names = {1: ("only",), 2: NAMES}.get(classes, many_names(classes))
    page = page_of(results, names, facts=facts)

    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(link["href"].removeprefix("#") in ids for link in page.all("a"))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.said("h1")) == len(page.said("head", "title")) == 1
    assert not {tag for tag, _ in page.elements} & {"script", "iframe", "form", "object", "base"}
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith(("#", "data:"))
    assert "://" not in page.html
    assert not re.search(r"url\(|@import", page.html)
    assert all(image["alt"] for image in page.all("img"))
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert ("This run" in page.said("h2")) == bool(facts)


def test_a_page_of_nothing_says_so():
    page = page_of([])

    assert page.tiles == {"files": "0", "answered": "0", "could not be read": "0"}
    assert page.said("p") == ["No picture was answered."]


@pytest.mark.parametrize("name", ["pictures_per_class", "failures"])
def test_a_limit_below_zero_is_refused(name: str):
    with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
        Report(NAMES, **{name: -1})
