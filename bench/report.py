"""From samples to what a person reads: a page with a table and a plot for every workload, and the table of ratios."""

import subprocess
from pathlib import Path

from . import checks
from .results import Cell, Results

UNITS = {"rate": ("messages/s", 1), "p50_us": ("ms, median", 1000), "p99_us": ("ms, p99", 1000),
         "cpu_us": ("CPU µs/message", 1), "wal_bytes": ("WAL bytes/message", 1),
         "wal_total": ("WAL with full page images", 1), "disk_bytes": ("MB on disk", 1e6),
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
    text = [f"# {workload.title}\n", f"`scripts/bench {workload.name}` reproduces this page.\n"]
    if workload.notes:
        text.append(workload.notes + "\n")
    text.append(f"![{workload.title}]({workload.name}.svg)\n")
    text.append("Medians of the rounds, in brackets the lowest and the highest round.\n")
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
    """An SVG of the workload's own metric, with the spread as bars."""
    unit, divisor = UNITS[workload.metric]
    points = results.distinct(workload.name, "point")
    peers = results.distinct(workload.name, "peer")
    script = [f"set terminal svg size 800,480 font 'sans,13' background '#ffffff'\nset output '{path}'",
              f"set title '{workload.title}'", f"set xlabel '{workload.axis}'", f"set ylabel '{unit}'",
              "set key outside right top", "set grid ytics lc '#dddddd'", "set yrange [0:*]",
              "set xtics (" + ", ".join(f"'{point}' {index}" for index, point in enumerate(points)) + ")",
              f"set xrange [-0.3:{len(points) - 0.7}]"]
    for peer in peers:
        script.append(f"${peer} << EOD")
        for index, point in enumerate(points):
            cell = Cell(workload.name, point, peer, workload.metric)
            if values := results.values(cell):
                script.append(" ".join(str(value / divisor) for value in (index * divisor, results.median(cell),
                                                                           min(values), max(values))))
        script.append("EOD")
    script.append("plot " + ", ".join(f"${peer} using 1:2:3:4 with yerrorlines lw 2 pt 7 ps 0.6 title '{peer}'"
                                      for peer in peers))
    subprocess.run(["gnuplot"], input="\n".join(script), text=True, check=True)


def ratios(results: Results) -> str:
    """The table of ratios for the terminal."""
    rows = [("ratio", "required", "measured", ""), *checks.table(results)]
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{what:<{width}}  {required:>8}  {measured:>8}  {verdict}" for what, required, measured, verdict
                     in rows)


def publish(results: Results, workloads: list, directory: Path) -> None:
    """Write the pages and plots of the workloads that were run, and a list of all pages that are there."""
    directory.mkdir(parents=True, exist_ok=True)
    for workload in workloads:
        if results.distinct(workload.name, "point"):
            (directory / f"{workload.name}.md").write_text(page(results, workload), encoding="utf-8")
            plot(results, workload, directory / f"{workload.name}.svg")
    pages = sorted(path for path in directory.glob("*.md") if path.name != "README.md")
    titles = [f"- [{path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}]({path.name})" for path in pages]
    (directory / "README.md").write_text(
        "# Benchmarks\n\n[How they are made and read](../../bench/README.md)\n\n" + "\n".join(titles) + "\n",
        encoding="utf-8")
