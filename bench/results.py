"""The samples of a run, and the questions asked of them."""

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Cell:
    """One number of a table: a peer at a point of a workload."""

    workload: str
    point: str
    peer: str
    metric: str = "rate"


@dataclass
class Results:
    """Everything that was measured, one record per sample, and the circumstances."""

    environment: dict
    options: str = ""                       # of the command line, which make the run what it is
    samples: list[dict] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, workload: str, point: str, peer: str, round_number: int, **metrics: float | None) -> None:
        self.samples.append({"workload": workload, "point": point, "peer": peer, "round": round_number} | metrics)

    def values(self, cell: Cell) -> list[float]:
        """The rounds of a cell."""
        return [sample[cell.metric] for sample in self.samples
                if (sample["workload"], sample["point"], sample["peer"]) == (cell.workload, cell.point, cell.peer)
                and sample.get(cell.metric) is not None]

    def median(self, cell: Cell) -> float | None:
        values = self.values(cell)
        return statistics.median(values) if values else None

    def distinct(self, workload: str, key: str) -> list[str]:
        """The points, peers or ... of a workload in the order in which they were measured."""
        return list(dict.fromkeys(sample[key] for sample in self.samples if sample["workload"] == workload))

    def of(self, workload: str) -> "Results":
        """The samples of one workload."""
        return Results(self.environment, self.options, [sample for sample in self.samples if sample["workload"] == workload],
                       self.skipped)

    def completed_by(self, earlier: "Results", points: list[str], peers: list[str]) -> "Results":
        """With the cells that only an earlier run has, in the order of `points` and `peers`."""
        measured = {(sample["point"], sample["peer"]) for sample in self.samples}
        samples = self.samples + [sample for sample in earlier.samples if (sample["point"], sample["peer"]) not in measured]
        samples.sort(key=lambda sample: (_place(sample["point"], points), sample["round"], _place(sample["peer"], peers)))
        present = {sample["peer"] for sample in samples}
        skipped = {name: reason for name, reason in self.skipped.items() if name not in present}
        return Results(self.environment, self.options, samples, skipped)

    def write(self, path: Path) -> None:
        """One sample a line."""
        head = json.dumps({"environment": self.environment, "options": self.options, "skipped": self.skipped}, indent=1,
                          ensure_ascii=False)
        rows = ",\n".join("  " + json.dumps(_shortened(sample), ensure_ascii=False) for sample in self.samples)
        path.write_text(f'{head[:-2]},\n "samples": [\n{rows}\n ]\n}}\n', encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Results":
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def _place(name: str, order: list[str]) -> int:
    return order.index(name) if name in order else 0


def _shortened(sample: dict) -> dict:
    """Six digits are more than any measurement here is good for."""
    return {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in sample.items()}
