import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from gclf_runtime import Classifier, ImageError, images
from gclf_runtime.cpus import available_cpus

RED, GREEN, BLUE = (200, 20, 10), (10, 190, 30), (5, 60, 250)


def solid(*colors: tuple[int, int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.stack([np.full((16, 16, 3), color, np.uint8) for color in colors])


def noise(count: int, side: int = 16) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def test_a_batch_is_answered_in_order(colours: Path):
    predictions = Classifier(colours).predict(solid(RED, GREEN, BLUE, GREEN))

    assert [p.label for p in predictions] == ["red", "green", "blue", "green"]
    np.testing.assert_allclose(predictions[0].logits_k, np.array(RED) / 25.5, rtol=1e-5)
    exponentials = np.exp(np.array(RED) / 25.5)
    np.testing.assert_allclose(
        predictions[0].probabilities_k, exponentials / exponentials.sum(), rtol=1e-5
    )
    assert predictions[0].probability == predictions[0].probabilities_k[0]


def test_top_names_the_best_classes_first(colours: Path):
    prediction = Classifier(colours).predict(solid(BLUE))[0]

    assert [name for name, _ in prediction.top(2)] == ["blue", "green"]
    assert [name for name, _ in prediction.top(9)] == ["blue", "green", "red"]


def test_no_pictures_give_no_predictions(colours: Path):
    classifier = Classifier(colours)

    assert classifier.predict(np.zeros((0, 16, 16, 3), np.uint8)) == []
    assert classifier.predict_images([]) == []
    assert list(classifier.predict_files([])) == []


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 16, 16, 3), np.float32),
        np.zeros((1, 3, 16, 16), np.uint8),
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((1, 64, 64, 3), np.uint8),
    ],
    ids=["float", "nchw", "one picture", "another size"],
)
def test_predict_refuses_other_layouts(
    colours: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
):
    with pytest.raises(ValueError, match=r"expected uint8 pixels of shape \(N, 16, 16, 3\)"):
        Classifier(colours).predict(pixels)


def test_a_view_of_an_array_is_as_good_as_a_copy(colours: Path):
    pixels = noise(8)
    classifier = Classifier(colours)

    for view in (pixels[::2], pixels[:, ::-1], pixels[..., ::-1]):
        expected = [p.label for p in classifier.predict(view.copy())]
        assert [p.label for p in classifier.predict(view)] == expected


def test_every_form_of_a_picture_has_the_same_answer_to_the_bit(tmp_path: Path):
    classifier = Classifier.default()
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(1, 200)[0]).save(path)
    with Image.open(path) as image:
        forms = [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), image]
        predictions = classifier.predict_images([*forms, np.asarray(image.convert("RGB"))])
    from_file = next(classifier.predict_files([path])).prediction
    assert from_file
    alone = [classifier.predict_images([path])[0], from_file]

    for prediction in predictions:
        np.testing.assert_array_equal(prediction.probabilities_k, predictions[0].probabilities_k)
    for prediction in alone:
        np.testing.assert_allclose(
            prediction.probabilities_k, predictions[0].probabilities_k, rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("size", [1, 2, 7, 32, 33, 100])
def test_an_answer_does_not_depend_on_its_neighbours(size: int):
    classifier = Classifier.default()
    pixels = noise(100, 64)
    expected = np.stack([p.probabilities_k for p in classifier.predict(pixels)])

    for start in range(0, 100, size):
        batch = classifier.predict(pixels[start : start + size])
        answers = np.stack([p.probabilities_k for p in batch])
        np.testing.assert_allclose(answers, expected[start : start + size], rtol=0, atol=1e-6)


def test_many_threads_may_share_a_classifier():
    classifier = Classifier.default()
    pixels = noise(64, 64)

    def answer(number: int) -> bytes:
        return classifier.predict(pixels[number : number + 1])[0].probabilities_k.tobytes()

    expected = [answer(number) for number in range(64)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(answer, list(range(64)) * 8)) == expected * 8


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 40])
def test_any_number_of_pictures_is_answered_as_their_pixels_are(size: int):
    classifier = Classifier.default()
    pixels = noise(size, 64)

    predictions = classifier.predict_images(iter(pixels))

    expected = [p.probabilities_k.tobytes() for p in classifier.predict(pixels)]
    assert [p.probabilities_k.tobytes() for p in predictions] == expected


def frames_in_one_array() -> Iterator[Any]:
    frame = np.empty((16, 16, 3), np.uint8)
    for color in (RED, GREEN, BLUE):
        frame[:] = color
        yield frame


def frames_of_one_image() -> Iterator[Any]:
    encoded = io.BytesIO()
    first, *others = (Image.new("RGB", (20, 20), color) for color in (RED, GREEN, BLUE))
    first.save(encoded, "GIF", save_all=True, append_images=others)
    yield from ImageSequence.Iterator(Image.open(encoded))


def files_that_are_one_stream() -> Iterator[Any]:
    stream = io.BytesIO()
    for color in (RED, GREEN, BLUE):
        stream.seek(0)
        Image.new("RGB", (20, 20), color).save(stream, "BMP")
        stream.seek(0)
        yield stream


@pytest.mark.parametrize(
    "sources", [frames_in_one_array, frames_of_one_image, files_that_are_one_stream]
)
def test_an_iterator_may_give_one_object_with_other_pixels(
    colours: Path, sources: Callable[[], Iterator[Any]]
):
    predictions = Classifier(colours).predict_images(sources())

    assert [p.label for p in predictions] == ["red", "green", "blue"]


class SlowFile(io.BytesIO):
    """A stream whose bytes come when they are let go."""

    may_go = threading.Event()

    def read(self, size: int | None = -1) -> bytes:
        assert self.may_go.wait(10)
        return super().read(size)


def test_callers_whose_files_are_slow_hold_nobody_up(colours: Path):
    classifier, encoded = Classifier(colours), io.BytesIO()
    Image.new("RGB", (30, 20), GREEN).save(encoded, "PNG")
    callers = 2 * available_cpus() + 2

    def ask() -> str:
        return classifier.predict_images([SlowFile(encoded.getvalue())])[0].label

    with ThreadPoolExecutor(callers) as pool:
        slow = [pool.submit(ask) for _ in range(callers)]
        fast = classifier.predict_images([encoded.getvalue()])[0].label
        is_waiting = not any(future.done() for future in slow)
        SlowFile.may_go.set()

    assert (fast, is_waiting) == ("green", True)
    assert [future.result() for future in slow] == ["green"] * callers


def test_a_picture_that_cannot_be_read_is_an_error_or_a_result(colours: Path, tmp_path: Path):
    classifier = Classifier(colours)
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("RGB", (30, 20), GREEN).save(good)
    bad.write_bytes(b"no picture")

    with pytest.raises(ImageError, match=r"bad\.png: not an image"):
        classifier.predict_images([good, bad])
    results = list(classifier.predict_files([bad, good, tmp_path / "absent.png"]))
    assert [r.error.kind if r.error else None for r in results] == ["unsupported", None, "missing"]
    assert [r.prediction.label if r.prediction else None for r in results] == [None, "green", None]


@pytest.mark.parametrize("source", ["a.jpg", b"bytes", [5], [None], [io.StringIO("text")]], ids=str)
def test_what_is_no_list_of_pictures_is_a_type_error(colours: Path, source: Any):
    with pytest.raises(TypeError, match=r"a list|a picture is"):
        Classifier(colours).predict_images(source)


def test_pixels_of_load_may_be_stacked_and_predicted(colours: Path):
    classifier = Classifier(colours)
    pixels = images.load(Image.new("RGB", (99, 40), BLUE), classifier.spec.input)

    assert classifier.predict(pixels[None])[0].label == "blue"


def test_the_embedded_model_says_what_it_is():
    classifier = Classifier.default(device="cpu")

    assert classifier.spec.label_names == ("female", "male")
    assert (classifier.spec.input.height, classifier.spec.input.width) == (64, 64)
    assert classifier.spec.license.startswith("CC BY 4.0")
    assert classifier.provider == "CPUExecutionProvider"


def test_threads_must_be_positive(colours: Path):
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        Classifier(colours, threads=0)
