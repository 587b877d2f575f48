import io
import itertools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gclf_runtime import Classifier, InputSpec, images
from gclf_runtime.model_file import seal
from gclf_runtime.spec import Fit, Interpolation

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WEB = ROOT / "examples" / "web"
GENDER = ROOT / "runtime" / "gclf_runtime" / "models" / "gender.onnx"
FACES = sorted((ROOT / "examples" / "faces").glob("*.jpg"))
SIDES = [(100, 80), (64, 64), (30, 300), (257, 64), (64, 300), (5, 7), (640, 481)]
# What the page reads of a spec.
NEEDED = {
    *("schema_version", "input_layout", "input_dtype", "input_color", "exif_orientation"),
    *("transparency", "input_size", "fit", "interpolation", "precision", "license"),
}
pytestmark = pytest.mark.web
Browser: TypeAlias = Any  # conftest.Browser, which a test module cannot import
Site: TypeAlias = Any  # conftest.Site


def run_in_node(node_modules: Path, folder: Path, tasks: list[dict[str, Any]]) -> list[Any]:
    (folder / "job.json").write_text(json.dumps(tasks), encoding="utf-8")
    command = ["node", HERE / "answer.mjs", node_modules, WEB, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def raw(folder: Path, name: str, image: Image.Image) -> dict[str, Any]:
    """Write a decoded picture for Node."""
    (folder / name).write_bytes(image.convert("RGBA").tobytes())
    return {"name": name, "width": image.width, "height": image.height}


def noise(width: int, height: int, channels: int) -> Image.Image:
    generator = np.random.default_rng(width)
    return Image.fromarray(generator.integers(0, 256, (height, width, channels), np.uint8))


def in_order(answers: list[dict[str, Any]], classifier: Classifier) -> NDArray[np.float64]:
    found = {answer["label"]: answer["probability"] for answer in answers}
    return np.array([found[label] for label in classifier.spec.label_names])


def test_node_fits_pixels_as_the_runtime_does_to_the_bit(
    node_modules: Path, tmp_path: Path, colours: Path
):
    pictures = [noise(*side, channels) for side in SIDES for channels in (3, 4)]
    entries = [raw(tmp_path, f"{n}.rgba", picture) for n, picture in enumerate(pictures)]
    ways = [*itertools.product(get_args(Fit), get_args(Interpolation), [(33, 48)])]
    ways += [(fit, "bilinear", (64, 64)) for fit in get_args(Fit)]
    tasks, specs = list[dict[str, Any]](), list[InputSpec]()
    for fit, filter, size in ways:
        specs.append(InputSpec(height=size[0], width=size[1], fit=fit, interpolation=filter))
        spec = {"input_size": [3, *size], "fit": fit, "interpolation": filter}
        mark = f"{fit}-{filter}-{size[0]}"
        tasks.append({"model": str(colours), "spec": spec, "pictures": entries, "mark": mark})

    run_in_node(node_modules, tmp_path, tasks)

    wrong: list[tuple[InputSpec, tuple[int, int]]] = []
    for (task, spec), (entry, picture) in itertools.product(
        zip(tasks, specs, strict=True), zip(entries, pictures, strict=True)
    ):
        fitted = (tmp_path / f"{entry['name']}.{task['mark']}").read_bytes()
        if fitted != images.load(picture, spec).tobytes():
            wrong.append((spec, picture.size))
    assert not wrong
    assert len(tasks) == 21


def test_node_gives_the_answers_of_the_runtime_in_float_and_in_int8(
    node_modules: Path, tmp_path: Path, colours: Path
):
    faces = [Image.open(path).convert("RGB") for path in FACES]
    pictures = [raw(tmp_path, f"{number}.rgba", face) for number, face in enumerate(faces)]
    tasks = [{"model": str(model), "pictures": pictures} for model in (colours, GENDER)]

    results = run_in_node(node_modules, tmp_path, tasks)

    for model, answers in zip((colours, GENDER), results, strict=True):
        classifier = Classifier(model, device="cpu")
        expected = classifier.predict_images(faces)
        found = np.stack([in_order(answer, classifier) for answer in answers])
        assert [answer[0]["label"] for answer in answers] == [p.label for p in expected]
        wanted = np.stack([p.probabilities_k for p in expected])
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


def test_what_is_no_model_of_gclf_is_refused_with_the_remedy(
    node_modules: Path, tmp_path: Path, colours: Path
):
    sound = colours.read_bytes()
    files = {
        "this is no .onnx model": b"\xff\xd8\xff\xe0 a picture",
        "is no .onnx model, or a damaged one": sound[:-200],
        "carries no gclf.spec": b"",
        "was changed after it was exported": sound.replace(b"blue", b"cyan"),
        "schema_version must be 1, got 2": seal(
            sound.replace(b'"schema_version": 1', b'"schema_version": 2')
        ),
        "label_names must be": seal(sound.replace(b'"label_names"', b'"label_namez"')),
    }
    for number, content in enumerate(files.values()):
        (tmp_path / f"{number}.onnx").write_bytes(content)
    tasks = [{"model": str(tmp_path / f"{n}.onnx"), "pictures": []} for n in range(len(files))]

    results = run_in_node(node_modules, tmp_path, tasks)

    for reason, result in zip(files, results, strict=True):
        assert reason in result["error"]
        assert "gclf-export RUN/model.pt" in result["error"]


def answers_on(page: Browser) -> list[dict[str, Any]]:
    """Read what the page shows, once it has finished."""
    page.wait("document.body.ariaBusy === 'false'")
    assert page.evaluate("document.querySelector('#error').textContent") == ""
    return page.evaluate(
        "[...document.querySelectorAll('#answers li')].map((item) => ({"
        "  label: item.querySelector('.names span').textContent,"
        "  share: item.querySelector('.share').textContent,"
        "  probability: Number(item.dataset.probability) }))"
    )


def error_on(page: Browser) -> str:
    page.wait("document.querySelector('#error').textContent !== ''")
    assert page.evaluate("document.querySelector('#result').hidden")
    return page.evaluate("document.querySelector('#error').textContent")


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def make_pictures() -> dict[str, bytes]:
    """Encode one face in the ways that decoders treat differently."""
    face = Image.open(FACES[0]).convert("RGB")
    generator = np.random.default_rng(0)
    levels_hw = generator.integers(0, 65536, (face.height, face.width), np.uint16)
    clear = face.copy()
    clear.putalpha(Image.fromarray((levels_hw >> 8).astype(np.uint8)))
    sideways = Image.Exif()
    sideways[0x0112] = 6
    few = face.quantize(64)
    return {
        "plain.png": encoded(face, "PNG"),
        "alpha.png": encoded(clear, "PNG"),
        "palette.png": encoded(few, "PNG", transparency=bytes(range(0, 256, 4))),
        "grey16.png": encoded(Image.fromarray(levels_hw), "PNG"),
        "sideways.png": encoded(face, "PNG", exif=sideways),
        "plain.jpg": FACES[0].read_bytes(),
        "sideways.jpg": encoded(face, "JPEG", exif=sideways),
        "progressive.jpg": encoded(face, "JPEG", progressive=True),
        "ink.jpg": encoded(face.convert("CMYK"), "JPEG"),
        "large.jpg": encoded(face.resize((1600, 1200), Image.Resampling.BICUBIC), "JPEG"),
        "plain.webp": encoded(face, "WEBP", quality=80),
        "plain.gif": encoded(few, "GIF"),
        "plain.bmp": encoded(face, "BMP"),
    }


def test_the_page_shows_the_answers_of_the_runtime(browser: Browser, site: Site, tmp_path: Path):
    shutil.copy(GENDER, site.folder / "model.onnx")
    classifier = Classifier(GENDER, device="cpu")
    files = [tmp_path / f"{face.stem}.png" for face in FACES[::4]]
    for file, face in zip(files, FACES[::4], strict=True):
        Image.open(face).save(file)
    browser.open(site.address)

    for file, expected in zip(files, classifier.predict_images(files), strict=True):
        browser.choose(file)
        browser.wait(f"document.querySelector('#name').textContent === '{file.name}'")
        shown = answers_on(browser)
        assert [answer["label"] for answer in shown] == [label for label, _ in expected.top(2)]
        assert shown[0]["share"] == f"{expected.probability:.1%}".replace("%", " %")
        np.testing.assert_allclose(
            in_order(shown, classifier), expected.probabilities_k, rtol=0, atol=1e-4
        )
    assert "int8" in browser.evaluate("document.querySelector('#model').textContent")


def test_the_browser_decodes_what_the_runtime_decodes(browser: Browser, site: Site):
    """All but the large JPEG are equal to the bit in Chromium 156; other browsers may be 1 off."""
    script = """(async () => {
        const { decode, fit } = await import("./gclf.js");
        const spec = { input_size: [3, 64, 64], fit: "stretch", interpolation: "bilinear" };
        const answer = await fetch("NAME");
        return [...fit(await decode(await answer.blob()), spec)];
    })()"""
    browser.open(site.address)
    off: dict[str, tuple[int, float]] = {}
    for name, content in make_pictures().items():
        (site.folder / name).write_bytes(content)
        found = np.array(browser.evaluate(script.replace("NAME", name))).reshape(64, 64, 3)
        difference = np.abs(found - images.load(content))
        off[name] = int(difference.max()), float(difference.mean())

    large = off.pop("large.jpg")
    assert large[0] <= 2
    assert large[1] < 0.2
    assert {name: how for name, how in off.items() if how[0] > 1 or how[1] > 0.05} == {}


def test_a_dropped_picture_and_a_chosen_model_are_answered(
    browser: Browser, site: Site, colours: Path
):
    Image.new("RGB", (20, 20), (250, 10, 10)).save(site.folder / "red.png")
    (site.folder / "model.onnx").unlink(missing_ok=True)
    browser.open(site.address)
    assert "no model at model.onnx" in browser.evaluate("document.body.innerText")

    browser.choose(colours)
    browser.wait("document.querySelector('#model').textContent.startsWith('colours.onnx')")
    browser.evaluate("""(async () => {
        const answer = await fetch("red.png"), dropped = new DataTransfer();
        dropped.items.add(new File([await answer.blob()], "dropped.png"));
        dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, cancelable: true }));
    })()""")
    browser.wait("document.querySelector('#name').textContent === 'dropped.png'")

    assert answers_on(browser)[0]["label"] == "red"


def test_the_page_says_what_is_wrong(browser: Browser, site: Site, colours: Path, tmp_path: Path):
    files = {
        "zero bytes": ("empty.png", b""),
        "not an image that is decoded": ("words.jpg", b"these are words"),
        "damaged": ("cut.png", encoded(Image.new("RGB", (90, 90)), "PNG")[:40]),
        "carries no gclf.spec": ("bare.onnx", b"\x08\x08"),
        "was changed after": ("other.onnx", colours.read_bytes().replace(b"blue", b"cyan")),
    }
    (site.folder / "model.onnx").unlink(missing_ok=True)
    browser.open(site.address)
    browser.choose(FACES[0])
    assert "there is no model yet" in error_on(browser)
    browser.choose(colours)
    browser.wait("document.querySelector('#model').textContent.startsWith('colours.onnx')")

    for reason, (name, content) in files.items():
        (tmp_path / name).write_bytes(content)
        browser.choose(tmp_path / name)
        browser.wait(f"document.querySelector('#error').textContent.startsWith('{name}')")
        assert reason in error_on(browser)
    browser.choose(FACES[0])
    browser.wait("!document.querySelector('#result').hidden")
    assert sum(answer["probability"] for answer in answers_on(browser)) == pytest.approx(1)


def test_of_several_pictures_each_has_a_line_and_each_fault_stays(
    browser: Browser, site: Site, colours: Path, tmp_path: Path
):
    shutil.copy(colours, site.folder / "model.onnx")
    colors = {"red.png": (250, 10, 10), "blue.png": (10, 10, 250)}
    for name, color in colors.items():
        Image.new("RGB", (20, 20), color).save(tmp_path / name)
    (tmp_path / "words.png").write_text("these are words")
    browser.open(site.address)

    browser.choose(tmp_path / "red.png", tmp_path / "words.png", tmp_path / "blue.png")
    browser.wait("document.querySelector('#name').textContent === 'blue.png'")
    browser.wait("document.querySelectorAll('#all li').length === 2")

    lines = browser.evaluate("[...document.querySelectorAll('#all li')].map((l) => l.innerText)")
    assert [line.split("\n")[0] for line in lines] == ["red.png: red", "blue.png: blue"]
    error = browser.evaluate("document.querySelector('#error').textContent")
    assert error.startswith("words.png: not an image")
    browser.choose(tmp_path / "red.png")
    browser.wait("document.querySelector('#name').textContent === 'red.png'")
    assert answers_on(browser)[0]["label"] == "red"
    assert browser.evaluate("document.querySelector('#all').children.length") == 0


def test_a_long_name_leaves_the_percentage_on_one_line(
    browser: Browser, site: Site, colours: Path, tmp_path: Path
):
    spec = Classifier(colours).spec
    stated = spec.to_json().encode()
    # The names as long as the versions and dates that give way: no protobuf written anew.
    record = {k: v for k, v in json.loads(stated).items() if k in NEEDED}
    record["label_names"] = ["", "b", "c"]
    record["label_names"][0] = "long " * ((len(stated) - len(json.dumps(record))) // 5)
    renamed = json.dumps(record).encode().ljust(len(stated))
    assert len(record["label_names"][0]) > 100
    model = seal(colours.read_bytes().replace(stated, renamed))
    (site.folder / "model.onnx").write_bytes(model)
    Image.new("RGB", (20, 20), (250, 10, 10)).save(tmp_path / "red.png")
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    browser.open(site.address)
    browser.choose(tmp_path / "red.png")
    browser.wait("!document.querySelector('#result').hidden")

    lines = browser.evaluate("""[...document.querySelectorAll('.share')].map((share) => {
        const range = document.createRange();
        range.selectNodeContents(share);
        return range.getClientRects().length;
    })""")
    width = browser.evaluate("document.documentElement.scrollWidth")
    browser.call("Emulation.clearDeviceMetricsOverride")

    assert lines == [1, 1, 1]
    assert width <= 360


def test_no_model_is_said_in_the_colour_of_errors(browser: Browser, site: Site):
    (site.folder / "model.onnx").unlink(missing_ok=True)
    browser.open(site.address)

    colour = "getComputedStyle(document.querySelector('#{}')).color"
    browser.wait("document.querySelector('#model').textContent.startsWith('no model at')")
    assert browser.evaluate(colour.format("model")) == browser.evaluate(colour.format("error"))


def test_the_browser_lets_the_page_send_nothing_elsewhere(browser: Browser, site: Site):
    browser.open(site.address)

    refused = browser.evaluate("""new Promise((resolve) => {
        addEventListener("securitypolicyviolation", (event) => resolve(event.violatedDirective));
        fetch("http://127.0.0.1:9/", { method: "POST", body: "a picture" }).catch(() => {});
        setTimeout(() => resolve("it was sent"), 20000);
    })""")

    assert refused == "connect-src"
