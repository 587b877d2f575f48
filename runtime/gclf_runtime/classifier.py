"""Classifier: open a model once, predict many times, from any thread.

Axes: n batch, h height, w width, c channels (RGB), k classes.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gclf_runtime import images
from gclf_runtime.cpus import available_cpus
from gclf_runtime.errors import ImageError
from gclf_runtime.items import Item
from gclf_runtime.pipeline import Outcome, Runner, SessionRunner, run_items
from gclf_runtime.results import FileResult, Prediction
from gclf_runtime.session import Device, OnnxSession, has_driver
from gclf_runtime.spec import ModelSpec
from gclf_runtime.turnstile import Turnstile

if TYPE_CHECKING:
    from gclf_runtime.spares import Spares

_CPU = "CPUExecutionProvider"
_BYTES_HELD = 64 * 1024 * 1024  # of pictures that are read and wait for their turn


class Classifier:
    """A model opened once; every method may be called from any thread.

    Args:
        model: An .onnx file made by gclf-export.
        device: `cpu`, `cuda` (CUDA or a ProviderError), or `auto` (CUDA when it starts).
        threads: Workers of `predict_files`; the CPUs this process may use when None.
        processes: Worker processes of `predict_files`, on the CPU; they start when a stream turns
            out long. 0 is none: threads, which share one interpreter, feed some four cores.
        batch_size: Pictures per run of the model; what suits the device when None.
        max_pixels: Refuse a picture that would hold more pixels than this in memory.
        spec: Used in place of the file's own, or of none.
        sha256: What the whole file's must be, in hexadecimal; any when None.
        starts_early: Start the processes now, while the model is opened: for a stream that is
            known to be long.

    Raises:
        ModelError: No such file, damaged, changed, or at odds with its spec.
        ProviderError: onnxruntime or the device asked for cannot start.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: Device = "auto",
        threads: int | None = None,
        processes: int = 0,
        batch_size: int | None = None,
        max_pixels: int = images.MAX_PIXELS,
        spec: ModelSpec | None = None,
        sha256: str | None = None,
        starts_early: bool = False,
    ) -> None:
        for name, value in (("threads", threads), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if processes < 0 or max_pixels < 1:
            raise ValueError(
                f"processes must be at least 0 and max_pixels 1, got {processes} and {max_pixels}"
            )
        self._model, self._processes = os.path.abspath(model), processes
        self._threads = threads or available_cpus()
        self._max_pixels = max_pixels
        self._spares = _spares(processes) if starts_early and _is_for_cpu(device) else None
        self._session = OnnxSession(
            model, device=device, spec=spec, sha256=sha256, batch_size=batch_size
        )
        # Threads that decode disturb each other too. With one more than CPUs none is idle while
        # the next is woken: on two CPUs 8 to 64 callers had 12 to 25 % more answers per second.
        self._turnstile = Turnstile(available_cpus() + 1)

    @classmethod
    def default(
        cls,
        *,
        device: Device = "auto",
        threads: int | None = None,
        processes: int = 0,
        batch_size: int | None = None,
        max_pixels: int = images.MAX_PIXELS,
        sha256: str | None = None,
        starts_early: bool = False,
    ) -> "Classifier":
        """Open the embedded model: female or male, as annotators perceive a face."""
        model = resources.files("gclf_runtime") / "models" / "gender.onnx"
        with resources.as_file(model) as path:
            return cls(
                path,
                device=device,
                threads=threads,
                processes=processes,
                batch_size=batch_size,
                max_pixels=max_pixels,
                sha256=sha256,
                starts_early=starts_early,
            )

    def __repr__(self) -> str:
        return f"Classifier({self._model!r}, {self.provider}, {len(self.spec.label_names)} classes)"

    @property
    def spec(self) -> ModelSpec:
        """What the model promises: classes, preprocessing, metrics, origin."""
        return self._session.spec

    @property
    def provider(self) -> str:
        """Name of the execution provider that really started."""
        return self._session.provider

    @property
    def batch_size(self) -> int:
        """Pictures per run of the model; halved when a GPU's memory ends."""
        return self._session.batch_size

    @property
    def onnxruntime_version(self) -> str:
        """Version of the onnxruntime that runs the model."""
        return self._session.onnxruntime_version

    @property
    def sha256(self) -> str:
        """Digest of the model file, in hexadecimal."""
        return self._session.sha256

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the model file carries beside its graph, by key: the spec, golden vectors, ..."""
        return self._session.metadata

    def predict(self, pixels_nhwc: NDArray[np.uint8]) -> list[Prediction]:
        """Classify a batch of pixels that `images.load` has prepared.

        Args:
            pixels_nhwc: RGB pixels, uint8 0-255, shape (N, height, width, 3). N may be 0.

        Returns:
            One prediction per image, in the order given.

        Raises:
            ValueError: The array has another shape or dtype.
        """
        wanted = (self.spec.input.height, self.spec.input.width, 3)
        if pixels_nhwc.dtype != np.uint8 or pixels_nhwc.shape[1:] != wanted:
            raise ValueError(
                f"expected uint8 pixels of shape (N, {wanted[0]}, {wanted[1]}, 3), "
                f"got {pixels_nhwc.dtype} {pixels_nhwc.shape}. "
                "Use predict_images() or gclf_runtime.images.load() to decode and resize"
            )
        predictions: list[Prediction] = []
        size = self.batch_size
        for start in range(0, len(pixels_nhwc), size):
            chunk = np.ascontiguousarray(pixels_nhwc[start : start + size])
            outputs = zip(*self._session.run(chunk), strict=True)
            predictions += [Prediction(self.spec.label_names, p, z) for p, z in outputs]
        return predictions

    def predict_images(self, sources: Iterable[images.ImageSource]) -> list[Prediction]:
        """Classify pictures held as paths, bytes, file objects, PIL images or arrays.

        Args:
            sources: Any number of pictures, each as `images.load` takes it.

        Returns:
            One prediction per picture, in the order given.

        Raises:
            ImageError: A picture cannot be read.
            TypeError: `sources` is one picture and not several, or holds what is none.
        """
        if isinstance(sources, (str, bytes)):
            raise TypeError("predict_images takes several pictures: put the one into a list")
        self._session.check_process()
        predictions: list[Prediction] = []
        for pictures in _batches(map(self._read, sources), self.batch_size):
            with self._turnstile:
                pixels = [p if isinstance(p, np.ndarray) else self._decode(p) for p in pictures]
                predictions += self.predict(np.stack(pixels))
        return predictions

    def _read(self, source: images.ImageSource) -> images.Picture | NDArray[np.uint8]:
        """Read a picture while no turn is held, for a disk may be slow.

        Pixels are fitted at once: an iterator may give the same array or image with others next.
        """
        picture = images.read(source)
        return picture if isinstance(picture.content, bytes) else self._decode(picture)

    def _decode(self, picture: images.Picture) -> NDArray[np.uint8]:
        return images.decode(picture, self.spec.input, max_pixels=self._max_pixels)

    def predict_files(self, paths: Iterable[str | os.PathLike[str]]) -> Iterator[FileResult]:
        """Classify files as a stream: memory does not grow with their number.

        Args:
            paths: Any number of files, taken from the iterable as they are needed.

        Yields:
            One result per path, in the order given. A file that cannot be read is a result with
            an `error`; it stops nothing.
        """
        if isinstance(paths, (str, bytes)):
            raise TypeError("predict_files takes several paths: put the one into a list")
        items = (Item(os.fspath(path)) for path in paths)
        return (result for _, result in self.predict_items(items))

    def predict_items(
        self, items: Iterable[Item], *, keep_pixels: bool = False
    ) -> Iterator[tuple[Item, FileResult]]:
        """Classify what `gclf_runtime.sources.open_sources` finds, as a stream.

        Args:
            items: Any number of inputs, taken from the iterable as they are needed.
            keep_pixels: Set `pixels_hwc` of each result that has an answer.

        Yields:
            Each item with its result, in order; one that cannot be read has an `error`.
        """
        with contextlib.ExitStack() as stack:
            runner, workers = self._runner(stack, keep_pixels)
            outcomes = run_items(runner, items, workers=workers, batch_size=self.batch_size)
            yield from self._results(stack.enter_context(contextlib.closing(outcomes)))

    def _runner(self, stack: contextlib.ExitStack, keep_pixels: bool) -> tuple[Runner, int]:
        """Return what answers chunks, and how many it answers at a time."""
        options: dict[str, Any] = {"max_pixels": self._max_pixels, "keep_pixels": keep_pixels}
        runner = SessionRunner(self._session, **options)
        if not self._processes or self.provider != _CPU:
            return runner, self._threads
        from gclf_runtime.pool import WorkerPool

        pool = WorkerPool(
            self._model,
            runner,
            self.spec,
            sha256=self.sha256,
            processes=self._processes,
            threads=self._threads,
            options=options,
            spares=self._spares,
        )
        stack.callback(pool.close)
        return pool, max(self._processes, self._threads)

    def _results(
        self, outcomes: Iterable[tuple[Item, Outcome]]
    ) -> Iterator[tuple[Item, FileResult]]:
        label_names = self.spec.label_names
        for item, outcome in outcomes:
            if isinstance(outcome, ImageError):
                yield item, FileResult(item.name, None, outcome)
            else:
                probabilities_k, logits_k, best, pixels_hwc = outcome
                prediction = Prediction(label_names, probabilities_k, logits_k, best)
                yield item, FileResult(item.name, prediction, None, pixels_hwc)


def _is_for_cpu(device: Device) -> bool:
    return device == "cpu" or (device == "auto" and not has_driver())


def _batches(
    pictures: Iterable[images.Picture | NDArray[np.uint8]], size: int
) -> Iterator[list[images.Picture | NDArray[np.uint8]]]:
    """Give pictures by the batch, or fewer where they are large."""
    batch, held = list[images.Picture | NDArray[np.uint8]](), 0
    for picture in pictures:
        batch.append(picture)
        held += picture.nbytes
        if len(batch) >= size or held >= _BYTES_HELD:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _spares(count: int) -> "Spares":
    from gclf_runtime.spares import Spares

    return Spares(count)
