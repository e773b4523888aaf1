"""The command line: `scripts/bench` prepares the machine and ends up here."""

import argparse
import datetime
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

from . import bodies, checks, cluster, report, workloads
from .cluster import Cluster
from .context import Context
from .peers import ALL as PEERS
from .results import Results

ROOT = Path(__file__).parent.parent
ROUNDS = 5
QUICK_ROUNDS, QUICK_SECONDS = 3, 2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Side-by-side benchmarks of pigeon and its peers.")
    parser.add_argument("workload", nargs="*", help="which workloads to run (default: all); see --list")
    parser.add_argument("--quick", action="store_true", help="check the main required ratios in about three minutes")
    parser.add_argument("--strict", action="store_true", help="fail if a required ratio is missed")
    parser.add_argument("--rounds", type=int, help="alternating rounds at each point (default 5, quick 3)")
    parser.add_argument("--seconds", type=int, help="seconds a sample (default: the workload's)")
    parser.add_argument("--minutes", type=float, help="minutes of a steady workload (default: the workload's)")
    parser.add_argument("--points", help="points of the axis, separated by semicolons (default: all)")
    parser.add_argument("--peers", help="comma-separated (default: all that are installed)")
    parser.add_argument("--output", type=Path, help="where pages and plots go (default docs/benchmarks; quick: nowhere)")
    parser.add_argument("--packages", action="store_true", help="list the Debian packages that the peers need")
    parser.add_argument("--list", action="store_true", help="list workloads and peers")
    options = parser.parse_args()
    unknown = set(options.workload) - set(workloads.ALL)
    unknown |= set(options.peers.split(",") if options.peers else ()) - set(PEERS)
    if unknown:
        parser.error(f"unknown workload or peer: {', '.join(sorted(unknown))}; see --list")
    return options


def environment(bindir: Path) -> dict[str, object]:
    """What the numbers depend on, the machine's own limits included."""
    version = subprocess.run([bindir / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    return {
        "date": datetime.date.today().isoformat(),
        "pigeon": extension_commit(),
        "server": version.strip(),
        "processors": f"{os.cpu_count()} x {model}",
        "fdatasync of 8 kB per second (pg_test_fsync)": round(cluster.fdatasync_rate(bindir)),
        "durable sequential writes, MB/s": round(cluster.write_bandwidth() / 1e6),
    }


def extension_commit() -> str:
    """The last commit that changed what is measured, and whether it has been changed since."""
    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *arguments, "--", "src", "pigeon--*.sql"], capture_output=True,
                              text=True, check=False).stdout.strip()

    commit = git("log", "-1", "--format=%h") or "unknown"
    return f"{commit}, changed" if git("status", "--porcelain") else commit


def chosen_options(options: argparse.Namespace) -> str:
    """The options that make a run of workloads what it is, as they are typed; those that only cut it in pieces left out."""
    return " ".join(f"--{name} {value:g}" for name in ("rounds", "seconds", "minutes")
                    if (value := getattr(options, name)) is not None)


def main() -> int:
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):      # so that what was begun is undone
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    chosen = [workloads.ALL[name] for name in options.workload or workloads.ALL]
    wanted = checks.quick_cells() if options.quick else None
    needed = needed_peers(chosen, wanted, options.peers)
    if options.packages:
        print(*{package: None for name in needed for package in PEERS[name].packages})
        return 0
    if options.list:
        for workload in workloads.ALL.values():
            print(f"{workload.name:<22}{workload.title}")
        print("\npeers:")
        for name, peer in PEERS.items():
            print(f"{name:<22}{peer.title}")
        return 0
    bindir = Path(subprocess.run([os.environ.get("PG_CONFIG", "pg_config"), "--bindir"], capture_output=True, text=True,
                                 check=True).stdout.strip())
    libraries = "pigeon" if (pkglibdir(bindir) / "pigeon.so").exists() else ""
    results = Results(environment(bindir), chosen_options(options))
    output = options.output or (None if options.quick else ROOT / "docs" / "benchmarks")
    path = ROOT / "bench" / f"results-{datetime.datetime.now():%Y%m%d-%H%M%S}.json"
    failed = False
    with Cluster(bindir, libraries) as server:
        results.environment["shared memory in huge pages"] = "yes" if server.huge_pages.granted else "no"
        peers = prepare_peers(server, needed, results)
        context = Context(server, peers, bodies.load(), results,
                          rounds=options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS),
                          seconds=options.seconds or (QUICK_SECONDS if options.quick else None), minutes=options.minutes,
                          points=tuple(options.points.split(";")) if options.points else None, wanted=wanted)
        for workload in chosen:
            if not context.participants(workload.name, None, workload.peers):
                continue
            print(f"{datetime.datetime.now():%H:%M:%S} {workload.name}", file=sys.stderr, flush=True)
            try:
                workload.run(context)
            except RuntimeError as error:
                failed = True
                print(f"{workload.name} failed: {error}", file=sys.stderr, flush=True)
                continue
            finally:                    # at once: a long run may not live to see its end
                results.write(path)
            if output:
                report.publish(results, workload, list(PEERS), output)
    for peer, reason in results.skipped.items():
        print(f"skipped {peer}: {reason}")
    rows = checks.table(results, expected=lambda check: options.quick and check.quick)
    print(report.ratios(rows))
    print(f"samples: {path}")
    return 1 if failed or (options.strict and any(row[3] != "ok" for row in rows)) else 0


def pkglibdir(bindir: Path) -> Path:
    return Path(subprocess.run([bindir / "pg_config", "--pkglibdir"], capture_output=True, text=True,
                               check=True).stdout.strip())


def needed_peers(chosen: list, wanted: frozenset | None, selection: str | None) -> list[str]:
    """The peers that the chosen workloads, or the ratios to be checked, are about."""
    names = [name for name in (selection.split(",") if selection else PEERS)
             if any(name in workload.peers for workload in chosen)]
    return [name for name in names if wanted is None or any(cell.peer == name for cell in wanted)]


def prepare_peers(server: Cluster, names: list[str], results: Results) -> dict:
    """Prepare every peer that can run here; say which cannot."""
    present = {}
    for name in names:
        peer = PEERS[name]
        reason = peer.missing(server)
        if reason:
            results.skipped[name] = reason
            continue
        peer.setup(server)
        present[name] = peer
    return present


if __name__ == "__main__":
    sys.exit(main())
