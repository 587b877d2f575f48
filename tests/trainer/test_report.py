import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

import torch

from gclf_trainer.answers import Answers, Samples, SplitName
from gclf_trainer.calibration import calibrate
from gclf_trainer.groups import group_scores, read_attributes
from gclf_trainer.pixels import Split
from gclf_trainer.recipe import Epoch
from gclf_trainer.report import Report, repeat_command

VOID = {"meta", "link", "img"}
HOSTILE = "</td></svg><script>x()</script><!--\"'><img src=//x onerror=y()>\udcff\u202e\x00"


class Page(HTMLParser):
    """A page taken apart; a tag closed out of order fails."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
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
        if "style" not in self._open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    @property
    def tiles(self) -> dict[str, str]:
        return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", self.html))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def part(self, title: str) -> "Page":
        """Return the section of a title."""
        found = re.search(rf"<section>\n<h2>{title}</h2>.*?</section>", self.html, re.DOTALL)
        assert found, title
        return Page(found[0])


def answers(name: SplitName = "validation", *, count: int = 40, classes: int = 2) -> Answers:
    """Return answers whose first is wrong and 90 % sure, and the others right and surer."""
    labels_n = np.arange(count) % classes
    logits_nk = np.eye(classes)[labels_n] * np.linspace(4, 6, count)[:, None]
    logits_nk[0] = np.eye(classes)[1] * np.log(9 * (classes - 1))
    pixels_nhwc = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 16, 16, 3), np.uint8
    )
    paths = tuple(Path(f"/data/{name}/{index}.png") for index in range(count))
    split = Split(paths, pixels_nhwc, labels_n)
    return Answers.from_logits(name, split, torch.from_numpy(logits_nk), temperature=1)


def report(**changes: Any) -> Report:
    validation = changes.get("validation") or answers()
    logits_nk = torch.from_numpy(validation.probabilities_nk).log()
    given: dict[str, Any] = {
        "title": "small",
        "label_names": ("cat", "dog"),
        "epochs": [Epoch(n, 0.1 / n, 1.0 / n, 2.0 / n, 0.5 + n / 10, 100, 1) for n in (1, 2, 3)],
        "marks": {2: "best", 3: "stopped early"},
        "validation": validation,
        "calibration": calibrate(logits_nk, torch.from_numpy(validation.split.labels_n)),
        "command": "gclf-train DATA --output RUN",
        "facts": {"dataset": "ab12", "torch": "2.15.0"},
    }
    return Report(**(given | changes))


def page(**changes: Any) -> Page:
    return Page(report(**changes).to_html())


def test_the_headline_says_how_good_it_is_and_how_sure_that_is():
    shown = page()

    assert shown.tiles["validation accuracy"] == "97.5%"
    assert "39 of 40; 95% interval 87.1–99.6%" in shown.text
    assert set(shown.tiles) == {"validation accuracy", "calibration error", "temperature"}


def test_the_test_split_is_shown_where_there_is_one():
    shown = page(test=answers("test", count=20))

    assert list(shown.tiles)[:2] == ["test accuracy", "validation accuracy"]
    assert shown.tiles["test accuracy"] == "95.0%"
    assert "The test pictures" in shown.part("Confusion").text
    assert shown.part("Most confident mistakes").html.count("/data/test/0.png") == 1
    assert "Test pictures" in shown.part("Calibration").text


def test_the_page_loads_nothing():
    shown = page(samples=Samples(np.zeros((2, 16, 16, 3), np.uint8), np.eye(2)))

    policy = next(each for each in shown.all("meta") if "http-equiv" in each)["content"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert all(image["src"].startswith("data:image/png;base64,") for image in shown.all("img"))
    assert [link["href"] for link in shown.all("link")] == ["data:,"]
    assert not re.search(r"url\(|@import|https?://", shown.html)
    assert not shown.all("script")


@pytest.mark.parametrize("classes", [2, 20], ids=["table", "map"])
def test_no_name_is_trusted(tmp_path: Path, classes: int):
    given = answers(classes=classes)
    paths = tuple(Path(f"/data/{index}/{HOSTILE.replace(chr(0), '')}") for index in range(40))
    given = Answers(
        "validation", Split(paths, *list(vars(given.split).values())[1:]), given.probabilities_nk
    )
    table = tmp_path / "attributes.csv"
    table.write_text("file,kind\n" + "".join(f"{i}.png,<i>{i % 2}\n" for i in range(40)))
    groups = group_scores(read_attributes(table), [f"{i}.png" for i in range(40)], [True] * 40)
    shown = page(
        title=HOSTILE, label_names=[f"{HOSTILE}{index}" for index in range(classes)],
        validation=given, groups=groups, marks={1: HOSTILE}, findings=[(HOSTILE, HOSTILE)],
        command=HOSTILE, facts={HOSTILE: HOSTILE},
    )  # fmt: skip

    assert "script" not in {tag for tag, _ in shown.elements}
    assert "i" not in {tag for tag, _ in shown.elements}
    assert all(image["src"].startswith("data:") for image in shown.all("img"))
    assert not any(key.startswith("on") for _, attributes in shown.elements for key in attributes)
    shown.html.encode()
    assert "\x00" not in shown.html
    assert "\\u202e" in shown.text


def test_two_classes_are_cells_and_many_are_a_map():
    few = page().part("Confusion")
    many = page(
        validation=answers(count=200, classes=100), label_names=[f"c{i:02}" for i in range(100)]
    ).part("Confusion")

    assert re.findall(r"--shade: var\(--(\w+)\); --share: ([\d.]+)%", few.html) == [
        ("right", "95.0"), ("wrong", "5.0"), ("wrong", "0.0"), ("right", "100.0"),
    ]  # fmt: skip
    squares = [each for each in many.all("rect") if each.get("class") in ("right", "wrong")]
    assert len(squares) == 101  # every class found, and one mistake
    assert "c00 answered c01: 1 (50.0%)" in many.text
    assert many.all("text")


def test_what_is_often_confused_is_named():
    given = answers(count=30, classes=3)
    probabilities_nk = given.probabilities_nk.copy()
    probabilities_nk[3::3] = [0.1, 0.2, 0.7]
    given = Answers("validation", given.split, probabilities_nk)

    text = page(validation=given, label_names=("cat", "dog", "owl")).part("Confusion").text

    assert "Most often confused" in text
    assert re.search(r"cat\s*owl\s*9 of 10", text)
    assert not re.search(r"cat\s*dog\s*1 of 10", text)


def test_the_weakest_of_many_classes_come_first_and_the_rest_are_folded():
    names = [f"c{i:02}" for i in range(40)]
    part = page(validation=answers(count=80, classes=40), label_names=names).part("Classes")

    assert "The other 25 classes" in part.text
    assert re.findall(r"<bdi>(c\d\d)</bdi>", part.html)[:2] == ["c00", "c01"]


def test_curves_hold_every_epoch_and_its_marks():
    part = page().part("Training")

    lines = [each["points"].split() for each in part.all("polyline")]
    assert [len(points) for points in lines] == [3, 3, 3, 3]
    assert lines[2][0] == "0.00,100.00"  # accuracy 60 % on an axis from 60 % to 80 %
    assert lines[2][-1] == "100.00,0.00"
    assert part.text.count("stopped early") == 3
    assert "epoch 2: validation 1, training 0.5" in part.text


def test_an_epoch_without_a_number_leaves_a_gap_in_the_curve():
    epochs = [Epoch(n, 0.1, loss, 1.0, 0.5, 100, 1) for n, loss in ((1, 1.0), (2, float("nan")))]
    shown = page(epochs=epochs, marks={})

    assert "nan" not in re.sub(r"<title>.*?</title>|aria-label=\".*?\"", "", shown.html)


def test_mistakes_are_shown_with_the_most_confident_first():
    given = answers(count=8)
    probabilities_nk = np.array([[0.6, 0.4], [0.9, 0.1], [0.3, 0.7]] + [[0.8, 0.2]] * 5)
    given = Answers("validation", given.split, probabilities_nk)

    assert given.mistakes(9) == [1, 3, 5, 7, 2]
    assert given.hardest(9) == [0, 4, 6]
    assert given.mistakes(1) == [1]
    figures = page(validation=given).part("Most confident mistakes").html.split("<figure>")[1:]
    assert "/data/validation/1.png" in figures[0]
    assert re.findall(r"<bdi>(\w+)</bdi>.*?<b>(.*?)</b>", figures[0]) == [
        ("cat", "90.0%"),
        ("dog", "10.0%"),
    ]


def test_a_split_without_a_mistake_says_so():
    given = answers()
    sure_nk = np.array([[0.9, 0.1], [0.1, 0.9]])[given.split.labels_n]
    given = Answers("validation", given.split, sure_nk)
    shown = page(validation=given)

    assert "was answered rightly" in shown.part("Most confident mistakes").text


def test_a_picture_is_shown_pixel_by_pixel():
    image = page().part("Most confident mistakes").all("img")[0]["src"]
    data = base64.b64decode(image.removeprefix("data:image/png;base64,"))

    assert np.array(Image.open(io.BytesIO(data))).tolist() == np.zeros((16, 16, 3)).tolist()


def test_samples_are_what_went_into_the_network():
    pixels_nhwc = torch.randint(0, 256, (3, 8, 9, 3), generator=torch.Generator().manual_seed(0))
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    scaled = (pixels_nhwc / 255 - torch.tensor(mean)) / torch.tensor(std)
    targets_nk = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 1.0]])

    seen = Samples.from_batch(scaled.permute(0, 3, 1, 2), targets_nk, mean=mean, std=std)

    assert seen.pixels_nhwc.tolist() == pixels_nhwc.tolist()
    part = page(samples=seen).part("What the network saw")
    assert re.findall(r"<bdi>(\w+)</bdi><b>(.*?)</b>", part.html) == [
        ("cat", ""), ("dog", "70%"), ("cat", "30%"), ("dog", ""),
    ]  # fmt: skip


def test_pictures_beyond_the_range_are_cut_to_it():
    seen = Samples.from_batch(
        torch.tensor([[[[-2.0]], [[2.0]], [[0.0]]]]), torch.ones(1, 1), mean=(0.5,), std=(0.5,)
    )

    assert seen.pixels_nhwc.ravel().tolist() == [0, 255, 128]


def test_large_pictures_are_fewer():
    pixels_nhwc = np.zeros((48, 224, 224, 3), np.uint8)
    seen = Samples(pixels_nhwc, np.tile([1.0, 0.0], (48, 1)))

    assert len(page(samples=seen).part("What the network saw").all("img")) == 20


def test_the_worst_group_is_named_with_its_interval(tmp_path: Path):
    table = tmp_path / "attributes.csv"
    lines = [f"{index}.png,{'old' if index < 40 else 'new'}" for index in range(80)]
    table.write_text("\n".join(["file,camera", *lines]), encoding="utf-8")
    given = answers(count=80)
    right = [index >= 20 for index in range(80)]
    groups = group_scores(read_attributes(table), given.split.paths, right)

    shown = page(validation=given, groups=groups)

    assert shown.tiles["worst group"] == "50.0%"
    text = shown.part("Groups").text
    assert "camera: old, 50.0% of 40 (35.2–64.8%); its interval lies below" in text


def test_findings_and_the_command_are_there_as_given():
    shown = page(findings=[("warning", "3 near duplicates")], command="gclf-train 'a b' --seed 1")

    assert "3 near duplicates" in shown.part("Audit of the pictures").text
    assert "<pre>gclf-train &#x27;a b&#x27; --seed 1</pre>" in shown.html
    assert re.search(r"dataset\s*ab12", shown.part("Repeat this run").text)
    assert "Nothing to report" in page(findings=[]).part("Audit of the pictures").text
    assert "Audit" not in page().text


def test_the_command_is_quoted_for_a_shell():
    assert repeat_command(["my data", "--seed", "1"]) == "gclf-train 'my data' --seed 1"
    assert repeat_command(["data", "--resume"]) == "gclf-train data"
    assert repeat_command(["data"], processes=2) == (
        'torchrun --nproc-per-node 2 "$(which gclf-train)" data'
    )
    assert repeat_command(["data"], processes=1, nodes=3) == (
        'torchrun --nnodes 3 --nproc-per-node 1 "$(which gclf-train)" data'
    )
