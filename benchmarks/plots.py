"""Pictures of figures, by matplotlib."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_OURS, _OTHERS, _INK = "#1f6f5c", "#b9c0c7", "#30363d"


def figure(columns: int, *, height: float) -> tuple[Any, list[Any]]:
    """Return an empty figure of some panels side by side, in the house's plain style."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    made, panels = pyplot.subplots(1, columns, figsize=(5.5 * columns, height), squeeze=False)
    for panel in panels[0]:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(colors=_INK, length=0)
    return made, list(panels[0])


def save(made: Any, path: Path) -> None:
    """Write the figure as a PNG without the time it was made."""
    from matplotlib import pyplot

    made.tight_layout()
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
    made, panels = figure(len(groups), height=4.2)
    for panel, (title, series) in zip(panels, groups.items(), strict=True):
        for name, values in series.items():
            ours: dict[str, Any] = {"color": _OURS, "linewidth": 3, "zorder": 3}
            look = ours if name == marked else {"linewidth": 1.2}
            panel.plot(list(values), list(values.values()), "o-", label=name, **look)
        steps = sorted({step for values in series.values() for step in values})
        panel.set_xscale("log", base=2)
        panel.set_xticks(steps, [f"{step:,}" for step in steps], rotation=30)
        panel.set_xlabel(over, color=_INK)
        panel.set_title(title, loc="left", fontsize=11, color=_INK)
        panel.legend(fontsize="small", frameon=False)
        if is_logarithmic:
            panel.set_yscale("log")
        else:
            panel.set_ylim(bottom=0)
    save(made, path)
