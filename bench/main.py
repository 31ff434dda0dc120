"""The bench from start to end: rounds over all measures, then the report."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import peers, plot, record, report
from bench.measure import Figures, Measure, all_measures, take_alone


def main() -> int:
    """Measure, and print medians and ratios."""
    options = _parse_options()
    if options.peers:
        peers.make_environment()
    measures = [one for one in all_measures() if _is_wanted(one, options)]
    rounds = 1 if options.quick else options.rounds
    try:
        taken = [_take_round(measures, number, options) for number in range(rounds)]
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"a measure failed: {error}\n")
        return 1
    where = report.conditions(options.folder, rounds, quick=options.quick, only=" ".join(options.only or ()))
    measured, ratios = list(report.summaries(measures, taken)), list(report.quotients(taken))
    if options.plot:
        plot.draw(options.plot, measured)
    if options.record:
        record.write(where, measured, ratios)
    if options.json:
        sys.stdout.write(json.dumps(report.as_json(where, measured, ratios), indent=1) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in report.as_text(where, measured, ratios))
    return 0


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="What jobrunner costs, beside the raw limits of the machine and other programs.",
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how often each is measured, in turns (5)")
    parser.add_argument("--quick", action="store_true", help="one tiny round, to see that all can be measured")
    parser.add_argument("--peers", action="store_true", help="other programs too, in an environment made for them")
    parser.add_argument(
        "--only", nargs="*", metavar="WORD", help="only measures with one of these words in their name or group"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture as well: PNG or SVG, as its name ends")
    parser.add_argument("--record", action="store_true", help="write docs/performance.md and its picture")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the databases are made")
    options = parser.parse_args()
    if options.quick and (options.record or options.plot):
        parser.error("--quick measures next to nothing, so there is nothing to record or to draw")
    return options


def _is_wanted(one: Measure, options: argparse.Namespace) -> bool:
    if one.group == peers.GROUP and not options.peers:
        return False
    return options.only is None or any(word in f"{one.name} {one.group}" for word in options.only)


def _take_round(measures: Sequence[Measure], number: int, options: argparse.Namespace) -> Figures:
    figures: Figures = {}
    for one in measures:
        sys.stderr.write(f"\rround {number + 1}: {one.name:<60}" if sys.stderr.isatty() else "")
        figures |= take_alone(one, options.folder, quick=options.quick)
    sys.stderr.write("\r\033[K" if sys.stderr.isatty() else "")
    return figures


if __name__ == "__main__":
    sys.exit(main())
