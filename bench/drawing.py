"""Runs in the environment of the plots: draws what it reads as JSON into the file that the command line names."""

import json
import sys

import matplotlib as mpl  # type: ignore[import-not-found,unused-ignore]  # only in the environment of the plots

mpl.use("Agg")
from matplotlib import pyplot as plt  # type: ignore[import-not-found,unused-ignore]  # after use()


def main() -> None:
    """A panel for each plot: its title, its unit, the names of its bars, and low, median and high of each."""
    plots = json.load(sys.stdin)
    mpl.rcParams["svg.hashsalt"] = "jobrunner"
    figure, panels = plt.subplots(1, len(plots), figsize=(5 * len(plots), 4.2), squeeze=False)
    for panel, (title, unit, bars) in zip(panels[0], plots, strict=True):
        names, lows, medians, highs = zip(*bars, strict=True)
        below = [median - low for median, low in zip(medians, lows, strict=True)]
        above = [high - median for median, high in zip(medians, highs, strict=True)]
        panel.bar(names, medians, yerr=[below, above], capsize=4, color="#4878a8")
        panel.set_title(title)
        panel.set_ylabel(unit)
        panel.tick_params(axis="x", labelsize=8)
    figure.tight_layout()
    figure.savefig(sys.argv[1])


if __name__ == "__main__":
    main()
