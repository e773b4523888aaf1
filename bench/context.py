"""What every kind of workload is given to run with."""

from dataclasses import dataclass

from .bodies import Body
from .cluster import Cluster
from .peers.peer import Peer
from .results import Cell, Results


@dataclass(frozen=True)
class Context:
    """One run of the harness.

    `wanted` limits it to the cells that some ratios need, `points` to some points; None means everything.
    """

    cluster: Cluster
    peers: dict[str, Peer]
    bodies: dict[str, Body]
    results: Results
    rounds: int
    seconds: int | None
    minutes: float | None = None
    points: tuple[str, ...] | None = None
    wanted: frozenset[Cell] | None = None

    def participants(self, workload: str, point: str | None, peers: tuple[str, ...]) -> list[Peer]:
        """The peers among `peers` that are present and wanted at a point (None: at any point) of a workload."""
        if point and self.points and point not in self.points:
            return []
        return [self.peers[name] for name in peers if name in self.peers and (
            self.wanted is None or any((cell.workload, cell.peer) == (workload, name) and point in (None, cell.point)
                                       for cell in self.wanted))]
