"""Report: one self-contained HTML page about many answers, for people to look at.

What is kept does not grow with the number of files: numbers of all, pictures of the least
confident, the first failures. It knows nothing of models or of folders, only of results.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Mapping

from gclf_runtime.errors import ImageError
from gclf_runtime.results import FileResult, Prediction
from gclf_runtime.sinks.markup import PATH_CHARS, shorten
from gclf_runtime.sinks.report_page import Group, Picture, render

_PIXEL_BYTES = 16 * 2**20  # of all pictures together: 1365 of 64×64, a page of about 15 MB
_GUESSES = 5  # of each picture
_COLORS = 6  # that can be told apart; with more classes the histogram does not tell them


class Report:
    """Counts, confidences, the least confident pictures and the failures of a run.

    Args:
        label_names: Class names in the model's order.
        pictures_per_class: How many pictures to show of each; fewer where those of all classes
            together would pass 16 MiB of pixels.
        failures: How many failures to list; all are counted.

    Raises:
        ValueError: A limit is below 0.
    """

    def __init__(
        self,
        label_names: tuple[str, ...],
        *,
        pictures_per_class: int = 120,
        failures: int = 1000,
    ) -> None:
        for name, limit in (("pictures_per_class", pictures_per_class), ("failures", failures)):
            if limit < 0:
                raise ValueError(f"{name} must be at least 0, got {limit}")
        self._indices = {name: index for index, name in enumerate(label_names)}
        self._edges = _bin_edges(len(label_names))
        self._pictures_limit, self._failures_limit = pictures_per_class, failures
        self._groups: dict[str, Group] = {}
        self._failures: list[tuple[str, str, str]] = []
        self._kinds: Counter[str] = Counter()
        self._arrivals = itertools.count()

    def add(self, result: FileResult, *, label: str | None = None) -> None:
        """Take one result in.

        Args:
            result: An answer or a failure; `pixels_hwc` are copied while they are to be shown.
            label: Group the answer under this in place of its own, for instance "unknown".
        """
        if result.error is not None:
            self._add_failure(result.path, result.error)
        if result.prediction is not None:
            self._add_answer(result, result.prediction, label or result.prediction.label)

    def _add_failure(self, path: str, error: ImageError) -> None:
        self._kinds[error.kind] += 1
        if len(self._failures) < self._failures_limit:
            shortened = shorten(path, PATH_CHARS), error.kind, shorten(error.reason, PATH_CHARS)
            self._failures.append(shortened)

    def _add_answer(self, result: FileResult, prediction: Prediction, label: str) -> None:
        pixels_hwc, probability = result.pixels_hwc, prediction.probability
        if label not in self._groups:
            self._open_group(label, 1 if pixels_hwc is None else pixels_hwc.nbytes)
        group = self._groups[label]
        group.bins[_bin_of(probability, self._edges)] += 1
        group.confidence_sum += probability
        rank = (-probability, -next(self._arrivals))
        if len(group.heap) < self._pictures_limit or (group.heap and rank > group.heap[0][:2]):
            # A copy: the pixels may be a view that would keep a whole batch alive.
            kept = None if pixels_hwc is None else pixels_hwc.copy()
            path = shorten(result.path, PATH_CHARS)
            heapq.heappush(group.heap, (*rank, Picture(path, prediction.top(_GUESSES), kept)))
            group.shrink(self._pictures_limit)

    def _open_group(self, label: str, picture_bytes: int) -> None:
        index, classes = self._indices.get(label), len(self._indices)
        legend = label if index is None or classes <= _COLORS else f"{classes:,} classes"
        color = "other" if index is None else f"series{index if classes <= _COLORS else 0}"
        self._groups[label] = Group(label, legend, color, [0] * (len(self._edges) - 1))
        limit = _PIXEL_BYTES // (len(self._groups) * picture_bytes)
        if limit < self._pictures_limit:
            self._pictures_limit = limit
            for group in self._groups.values():
                group.shrink(limit)

    def to_html(self, facts: Mapping[str, str]) -> str:
        """Write the page.

        Args:
            facts: What to say of the run, by name: model, provider, time. May be empty.

        Returns:
            An HTML document that loads nothing; it encodes to UTF-8 whatever the files' names.
        """
        groups = sorted(self._groups.values(), key=lambda group: -group.count)
        silent = [name for name in self._indices if name not in self._groups]
        return render(groups, silent, self._edges, self._kinds, self._failures, facts)


def _bin_edges(classes: int) -> list[float]:
    """Return round percentages from 100/classes or just below it (50 for one class) to 100."""
    first = 100 // max(2, classes) // 5 * 5
    width = 2.5 if first >= 50 else 5
    return [first + index * width for index in range(round((100 - first) / width) + 1)]


def _bin_of(probability: float, edges: list[float]) -> int:
    # The probability was a float32: 0.975 may be a little less.
    index = int((100 * probability - edges[0]) / (edges[1] - edges[0]) + 1e-4)
    return min(max(index, 0), len(edges) - 2)
