"""The fourth kind of workload: somebody waits; how long after the commit of a send does the message arrive?"""

from dataclasses import dataclass

from .context import Context
from .load import Pgbench
from .peers.peer import Peer

SECONDS = 20
RATE = 50


@dataclass(frozen=True)
class Wakeup:
    """Messages come one by one to a connection that waits.

    A message carries the time at which it was sent; its commit does not wait for the disk, so that is the time of its
    commit, too.  The receiver compares it with the time at which its receive returned.
    """

    name: str
    title: str
    peers: tuple[str, ...] = ("pigeon", "pgmq")
    axis: str = "waiting"
    metric: str = "p50_us"
    notes: str = ""

    def run(self, context: Context) -> None:
        """Rounds; in each, every peer in turn."""
        for number in range(1, context.rounds + 1):
            for peer in context.participants(self.name, None, self.peers):
                self._sample(context, peer, number)

    def _sample(self, context: Context, peer: Peer, number: int) -> None:
        cluster = context.cluster
        seconds = context.seconds or SECONDS
        for statement in (peer.drop(), peer.create(), "CREATE TABLE arrival (microseconds float8)"):
            cluster.sql(peer.database, statement)
        wait = ("INSERT INTO arrival SELECT 1e6 * extract(epoch FROM clock_timestamp() - sent::timestamptz)"
                f" FROM ({peer.wake_receive()}) AS received;\n")
        receiver = Pgbench(cluster, peer.database, [wait], clients=1, seconds=seconds, variables={})
        sender = Pgbench(cluster, peer.database, [peer.wake_send()], clients=1, seconds=seconds, rate=RATE, variables={})
        sender.finish()
        receiver.finish()
        median, slow = cluster.sql(
            peer.database, "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY microseconds) || ' ' ||"
                           " percentile_cont(0.99) WITHIN GROUP (ORDER BY microseconds) FROM arrival").split()
        context.results.add(self.name, "one", peer.name, number, p50_us=float(median), p99_us=float(slow))
        for statement in (peer.drop(), "DROP TABLE arrival"):
            cluster.sql(peer.database, statement)
