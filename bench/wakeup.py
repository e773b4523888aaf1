"""The fourth kind of workload: somebody waits; how long after the commit of a send does the message arrive?"""

from dataclasses import dataclass

from .context import Context
from .load import Pgbench
from .peers.peer import Peer

SECONDS = 20
PAUSE = "10 ms"                 # between two messages, so that whoever got the last one waits again
SPARE_SECONDS = 2               # for which the receivers wait on when the last message has been sent


@dataclass(frozen=True)
class Wakeup:
    """Messages come one by one to connections that wait, each at a queue of its own.

    A message carries the time at which it was sent; its commit does not wait for the disk, so that is the time of its
    commit, too.  The receiver compares it with the time at which its receive returned.
    """

    name: str
    title: str
    points: dict[str, int]
    peers: tuple[str, ...] = ("pigeon", "pgmq")
    axis: str = "waiting"
    metric: str = "p50_us"
    notes: str = ""

    def run(self, context: Context) -> None:
        """Rounds; in each, every number of waiters; with each, every peer in turn."""
        for number in range(1, context.rounds + 1):
            for label, waiters in self.points.items():
                for peer in context.participants(self.name, label, self.peers):
                    context.results.add(self.name, label, peer.name, number, **self._sample(context, peer, waiters))

    @staticmethod
    def _sample(context: Context, peer: Peer, waiters: int) -> dict[str, float]:
        cluster = context.cluster
        seconds = context.seconds or SECONDS
        for statement in (peer.drop_many(), peer.create_many(waiters), "CREATE TABLE arrival (microseconds float8)"):
            cluster.sql(peer.database, statement)
        wait = ("INSERT INTO arrival SELECT 1e6 * extract(epoch FROM clock_timestamp() - sent::timestamptz)"
                f" FROM ({peer.wake_receive('(:client_id)::text')}) AS received;\n")
        send = f"\\sleep {PAUSE}\n\\set queue random(0, {waiters - 1})\n{peer.wake_send('(:queue)::text')}"
        receivers = Pgbench(cluster, peer.database, [wait], clients=waiters, seconds=seconds + SPARE_SECONDS, variables={})
        receivers.wait_until_active()
        sent = Pgbench(cluster, peer.database, [send], clients=1, seconds=seconds, variables={}).finish().transactions
        receivers.finish()
        arrived, median, slow = map(float, cluster.sql(
            peer.database, "SELECT count(*) || ' ' || percentile_cont(0.5) WITHIN GROUP (ORDER BY microseconds) || ' ' ||"
                           " percentile_cont(0.99) WITHIN GROUP (ORDER BY microseconds) FROM arrival").split())
        if arrived < sent:
            raise RuntimeError(f"{peer.name}: of {sent} messages only {arrived:.0f} were received")
        for statement in (peer.drop_many(), "DROP TABLE arrival"):
            cluster.sql(peer.database, statement)
        return {"p50_us": median, "p99_us": slow, "messages": arrived}
