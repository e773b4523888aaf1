"""From samples to what a person reads: a page with a table and a plot for every workload, and the table of ratios."""

import statistics
import subprocess
from pathlib import Path

from . import checks
from .results import Cell, Results

UNITS = {"sent_rate": ("sent/s", 1), "rate": ("messages/s", 1), "p50_us": ("ms, median", 1000), "p99_us": ("ms, p99", 1000),
         "cpu_us": ("CPU µs/message", 1), "client_cpu_us": ("CPU µs/message, client", 1),
         "cpu_percent": ("CPU, % of one processor", 1), "wal_bytes": ("WAL bytes/message", 1),
         "wal_total": ("WAL with full page images", 1), "disk_bytes": ("MB on disk", 1e6),
         "disk_per_message": ("bytes on disk per message sent", 1),
         "wal_directory_bytes": ("MB of pg_wal", 1e6), "memory_bytes": ("MB private", 1e6)}


def number(value: float) -> str:
    """Three significant digits, and no more than a reader needs."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 else "0"


def spread(results: Results, cell: Cell) -> str:
    """Median and, with several rounds, lowest and highest."""
    values = [value / UNITS[cell.metric][1] for value in results.values(cell)]
    if not values:
        return "-"
    median = results.median(cell) / UNITS[cell.metric][1]
    return number(median) if len(values) == 1 else f"{number(median)} ({number(min(values))}..{number(max(values))})"


def lines(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]) + "\n"


def page(results: Results, workload) -> str:
    """The page of one workload."""
    metrics = [metric for metric in UNITS if any(metric in sample for sample in results.samples
                                                 if sample["workload"] == workload.name)]
    rows = [[point, peer, *(spread(results, Cell(workload.name, point, peer, metric)) for metric in metrics)]
            for point in results.distinct(workload.name, "point") for peer in results.distinct(workload.name, "peer")]
    rows = [row for row in rows if set(row[2:]) != {"-"}]
    command = " ".join(("scripts/bench", *filter(None, [results.options]), workload.name))
    text = [f"# {workload.title}\n", f"`{command}` reproduces this page; `{workload.name}.json` has the samples.\n"]
    if workload.notes:
        text.append(workload.notes + "\n")
    text.append(f"![{workload.title}]({workload.name}.svg)\n")
    if workload.axis == "seconds":
        last = max(map(int, results.distinct(workload.name, "point")))
        text.append(f"Each peer ran for {last / 60:g} minutes; a row is what happened since the row before.\n")
    rounds = len(results.distinct(workload.name, "round"))
    if rounds > 1:
        text.append(f"Medians of {rounds} rounds, in brackets the lowest and the highest.\n")
    text.append(lines([workload.axis, "peer", *(UNITS[metric][0] for metric in metrics)], rows))
    if ratios_here := checks.table(results, workload.name):
        text.append(lines(["ratio", "required", "measured", ""], [list(row) for row in ratios_here]))
    return "\n".join(text + [circumstances(results)])


def circumstances(results: Results) -> str:
    """What the numbers depend on."""
    rows = [[name, str(value)] for name, value in results.environment.items()]
    rows += [[f"{peer} skipped", reason] for peer, reason in results.skipped.items()]
    return lines(["measured on", ""], rows)


def plot(results: Results, workload, path: Path) -> None:
    """An SVG of the workload's own metric with its spread: lines where the axis is a number, else bars."""
    unit, divisor = UNITS[workload.metric]
    points = results.distinct(workload.name, "point")
    peers = results.distinct(workload.name, "peer")
    script = [f"set terminal svg size 800,480 font 'sans,13' background '#ffffff'\nset output '{path}'",
              f"set title '{workload.title}'", f"set xlabel '{workload.axis}'", f"set ylabel '{unit}'",
              "set key outside right top", "set grid ytics lc '#dddddd'", "set yrange [0:*]", "set datafile missing '-'",
              "set xtics (" + ", ".join(f"'{point}' {index}" for index, point in enumerate(points)) + ")",
              f"set xrange [-0.6:{len(points) - 0.4}]"]
    for place, peer in enumerate(peers):
        script.append(f"$data{place} << EOD")
        for index, point in enumerate(points):
            cell = Cell(workload.name, point, peer, workload.metric)
            values = [value / divisor for value in results.values(cell)]
            row = (statistics.median(values), min(values), max(values)) if values else "---"
            script.append(" ".join(map(str, (index, *row))))
        script.append("EOD")
    if all(point.replace(",", "").isdigit() for point in points):
        style = "using 1:2:3:4 with yerrorlines lw 2 pt 7 ps 0.6"
    else:
        style = "using 2:3:4"
        script += ["set style data histograms", "set style histogram errorbars gap 1", "set style fill solid 0.7 noborder"]
    script.append("plot " + ", ".join(f"$data{place} {style} title '{peer}'" for place, peer in enumerate(peers)))
    subprocess.run(["gnuplot"], input="\n".join(script), text=True, check=True)


def ratios(rows: list[tuple[str, str, str, str]]) -> str:
    """The table of ratios for the terminal."""
    rows = [("ratio", "required", "measured", ""), *rows]
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{what:<{width}}  {required:>8}  {measured:>8}  {verdict}" for what, required, measured, verdict
                     in rows)


def publish(results: Results, workload, peers: list[str], directory: Path) -> None:
    """Write samples, page and plot of a workload that was run, and the list of all pages.

    A run may measure some points or peers only.  What an earlier run of the same extension has of the others stays on
    the page.
    """
    mine = results.of(workload.name)
    if not mine.samples:
        return
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{workload.name}.json"
    commit = results.environment["pigeon"]
    known = commit != "unknown" and not commit.endswith("changed")
    if known and path.exists() and (earlier := Results.read(path)).environment["pigeon"] == commit:
        mine = mine.completed_by(earlier, list(getattr(workload, "points", ())), peers)
    mine.write(path)
    path.with_suffix(".md").write_text(page(mine, workload), encoding="utf-8")
    plot(mine, workload, path.with_suffix(".svg"))
    index(directory)


GENERATED = "<!-- What follows is written by scripts/bench. -->\n"


def index(directory: Path) -> None:
    """Write the required ratios and the list of pages into README.md, below whatever a person wrote there."""
    readme = directory / "README.md"
    prose = readme.read_text(encoding="utf-8").partition(GENERATED)[0] if readme.exists() else "# Benchmarks\n\n"
    everything = Results({})
    pages = []
    for path in sorted(directory.glob("*.json")):
        one = Results.read(path)
        everything.samples += one.samples
        title = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        pages.append([f"[{title}]({path.stem}.md)", one.environment["pigeon"], one.environment["date"]])
    readme.write_text("\n".join([
        prose + GENERATED, "## Required ratios\n",
        lines(["ratio", "required", "measured", ""],
              [list(row) for row in checks.table(everything, expected=lambda check: True)]),
        "## Pages\n", lines(["page", "pigeon as of", "measured on"], pages)]), encoding="utf-8")
