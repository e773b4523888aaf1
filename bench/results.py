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

    def write(self, path: Path) -> None:
        content = {"environment": self.environment, "skipped": self.skipped, "samples": self.samples}
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
