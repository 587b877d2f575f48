"""The runner of GPU batches, on onnxruntime's CPU device, which has the same binding of buffers."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import pytest
from numpy.typing import NDArray

from gclf_runtime import Classifier, ModelError
from gclf_runtime.device import SHAPES, DeviceRunner

OUTPUTS = ["probabilities", "logits"]


class WatchedSession:
    """A session that writes down the batches it is given, and whose memory may end."""

    def __init__(self, model: Path, *, memory: int = 1_000_000) -> None:
        self._session: Any = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        self.memory = memory
        self.shapes: list[int] = []
        self.io_binding = self._session.io_binding

    def run_with_iobinding(self, binding: Any) -> None:
        self._session.run_with_iobinding(binding)
        shape = binding.get_outputs()[0].shape()[0]
        self.shapes.append(shape)
        if shape > self.memory:
            raise RuntimeError("BFCArena: Failed to allocate memory for requested buffer")


def runner(session: WatchedSession, batch_size: int | None = 512) -> DeviceRunner:
    return DeviceRunner(
        ort, session, size_hw=(16, 16), outputs=OUTPUTS, device="cpu", batch_size=batch_size
    )


def noise(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 16, 16, 3), np.uint8)


def expected(colours: Path, pixels_nhwc: NDArray[np.uint8]) -> NDArray[np.float32]:
    predictions = Classifier(colours, device="cpu").predict(pixels_nhwc)
    return np.stack([prediction.probabilities_k for prediction in predictions])


@pytest.mark.parametrize("count", [1, 2, 8, 9, 33, 512, 513, 1100])
def test_a_batch_of_any_size_is_answered_in_few_shapes(colours: Path, count: int):
    session = WatchedSession(colours)
    pixels_nhwc = noise(count)

    probabilities_nk, logits_nk = runner(session).run(pixels_nhwc)

    np.testing.assert_allclose(probabilities_nk, expected(colours, pixels_nhwc), atol=1e-6)
    assert probabilities_nk.shape == logits_nk.shape == (count, 3)
    assert set(session.shapes) <= set(SHAPES)


def test_an_older_picture_behind_a_short_batch_is_not_answered(colours: Path):
    run = runner(WatchedSession(colours)).run
    run(noise(32))
    pixels_nhwc = noise(20)

    np.testing.assert_allclose(run(pixels_nhwc)[0], expected(colours, pixels_nhwc), atol=1e-6)


def test_the_largest_shape_is_the_batch_size(colours: Path):
    session = WatchedSession(colours)
    runner(session, batch_size=100).run(noise(250))

    assert session.shapes == [100, 100, 100]


@pytest.mark.parametrize(("memory", "halved"), [(511, 256), (100, 64), (1, 1)])
def test_when_memory_ends_the_batch_is_halved_and_the_run_finishes(
    colours: Path, memory: int, halved: int
):
    session = WatchedSession(colours, memory=memory)
    run = runner(session)
    pixels_nhwc = noise(700)

    probabilities_nk, _ = run.run(pixels_nhwc)
    session.shapes.clear()
    run.run(pixels_nhwc)

    np.testing.assert_allclose(probabilities_nk, expected(colours, pixels_nhwc), atol=1e-6)
    assert run.batch_size == halved
    assert max(session.shapes) <= memory


def test_without_memory_for_one_picture_the_error_says_what_to_do(colours: Path):
    with pytest.raises(ModelError, match=r"no memory for a single picture.* --device cpu"):
        runner(WatchedSession(colours, memory=0)).run(noise(3))


def test_another_error_is_not_taken_for_an_end_of_memory(colours: Path):
    class BrokenSession(WatchedSession):
        def run_with_iobinding(self, binding: Any) -> None:
            raise RuntimeError("CUDA failure 700: illegal address")

    with pytest.raises(RuntimeError, match="illegal address"):
        runner(BrokenSession(colours)).run(noise(3))


def test_the_batch_size_is_chosen_among_those_that_fit(colours: Path):
    assert runner(WatchedSession(colours), batch_size=None).batch_size in (32, 128, 512)
    assert runner(WatchedSession(colours, memory=100), batch_size=None).batch_size == 32


def test_threads_do_not_share_buffers(colours: Path):
    batches = [noise(count) for count in range(1, 65)]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(runner(WatchedSession(colours)).run, batches))

    for batch, (probabilities_nk, _) in zip(batches, answers, strict=True):
        np.testing.assert_allclose(probabilities_nk, expected(colours, batch), atol=1e-6)


@pytest.mark.gpu
def test_a_gpu_answers_as_the_cpu_does_at_every_batch_size():
    on_cpu, on_gpu = Classifier.default(device="cpu"), Classifier.default(device="cuda")
    pixels_nhwc = np.random.default_rng(0).integers(0, 256, (700, 64, 64, 3), np.uint8)

    for count in (1, 5, 33, 700):
        for cpu, gpu in zip(
            on_cpu.predict(pixels_nhwc[:count]), on_gpu.predict(pixels_nhwc[:count]), strict=True
        ):
            # int8 saturates differently on other kernels: the golden vectors' tolerance.
            np.testing.assert_allclose(gpu.probabilities_k, cpu.probabilities_k, atol=0.05)
