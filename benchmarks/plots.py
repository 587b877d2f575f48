"""Pictures of figures, by matplotlib."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_OURS, _OTHERS, _INK = "#1f6f5c", "#b9c0c7", "#30363d"
_PANELS_A_ROW = 2


def figure(count: int, *, height: float) -> tuple[Any, list[Any]]:
    """Return a figure of so many empty panels, each so many inches high, in the house's style."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    columns = min(count, _PANELS_A_ROW)
    rows = math.ceil(count / columns)
    made, grid = pyplot.subplots(
        rows, columns, figsize=(5.5 * columns, height * rows), layout="constrained", squeeze=False
    )
    panels = list(grid.flat)
    for panel in panels[count:]:
        panel.remove()
    for panel in panels[:count]:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(colors=_INK, length=0)
    return made, panels[:count]


def save(made: Any, path: Path) -> None:
    """Write the figure as a PNG without the time it was made."""
    from matplotlib import pyplot

    made.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(made)


def bars(
    groups: Mapping[str, Mapping[str, tuple[float, float, float]]],
    path: Path,
    *,
    marked: str,
    digits: int = 0,
) -> None:
    """Draw a panel per group: a bar per name, longest first, with its interval.

    Args:
        groups: By title, by name: the value, and the ends of its interval.
        path: The PNG.
        marked: Names that begin with this are in colour.
        digits: After the point.
    """
    tallest = max(map(len, groups.values()))
    made, panels = figure(len(groups), height=0.9 + 0.36 * tallest)
    for panel, (title, values) in zip(panels, groups.items(), strict=True):
        names = sorted(values, key=lambda name: values[name][0])
        middles = [values[name][0] for name in names]
        reach = [[abs(values[n][0] - values[n][end]) for n in names] for end in (1, 2)]
        colors = [_OURS if name.startswith(marked) else _OTHERS for name in names]
        panel.barh(names, middles, xerr=reach, color=colors, ecolor=_INK, height=0.7)
        for place, name in enumerate(names):
            panel.text(
                values[name][2], place, f"  {values[name][0]:,.{digits}f}", va="center", color=_INK
            )
        panel.set_title(title, loc="left", fontsize=11, color=_INK)
        panel.set_xticks([])
        panel.spines["bottom"].set_visible(False)
        panel.set_xlim(0, max(value[2] for value in values.values()) * 1.18)
    save(made, path)


def lines(
    groups: Mapping[str, Mapping[str, Mapping[int, float]]],
    path: Path,
    *,
    over: str,
    marked: str,
    is_logarithmic: bool = False,
) -> None:
    """Draw a panel per group: a line per name over numbers that double.

    Args:
        groups: By title, by name: the values by what they are drawn over.
        path: The PNG.
        over: What that is.
        marked: The name whose line is ours.
        is_logarithmic: Of the values' axis; it begins at 0 otherwise.
    """
    names = list(dict.fromkeys(name for series in groups.values() for name in series))
    made, panels = figure(len(groups), height=4.2)
    drawn: dict[str, Any] = {}
    for panel, (title, series) in zip(panels, groups.items(), strict=True):
        for name, values in series.items():
            ours: dict[str, Any] = {"color": _OURS, "linewidth": 3, "zorder": 3}
            look = ours if name == marked else {"color": f"C{names.index(name)}", "linewidth": 1.2}
            [drawn[name]] = panel.plot(list(values), list(values.values()), "o-", **look)
        steps = sorted({step for values in series.values() for step in values})
        panel.set_xscale("log", base=2)
        panel.set_xticks(steps, [f"{step:,}" for step in steps], rotation=30)
        panel.set_xlabel(over, color=_INK)
        panel.set_title(title, loc="left", fontsize=11, color=_INK)
        if is_logarithmic:
            panel.set_yscale("log")
        else:
            panel.set_ylim(bottom=0)
    made.legend(
        [drawn[name] for name in names],
        names,
        loc="outside lower center",
        ncols=min(len(names), 2 + len(panels[:_PANELS_A_ROW])),
        fontsize="small",
        frameon=False,
    )
    save(made, path)
