"""The seventh kind of workload: one tenant floods the queue; how long do the messages of the others wait?"""

import time
from dataclasses import dataclass

from .context import Context
from .load import Pgbench
from .peers.peer import CHUNK, Peer

FLOOD = 100_000
TENANTS = 10
MESSAGES = 10
RECEIVERS = 4
SECONDS = 10


@dataclass(frozen=True)
class Fairness:
    """Ten tenants send ten messages each, to receivers that wait; alone, and behind what one more tenant has sent.

    The time in the queue is measured by the receivers, which take one message at a time and commit.  It is that of the ten
    tenants' messages only.
    """

    name: str
    title: str
    peers: tuple[str, ...] = ("pigeon",)
    axis: str = "the others"
    metric: str = "p50_us"
    notes: str = ""

    def run(self, context: Context) -> None:
        """Rounds; in each, every peer in turn, first without the flood."""
        for number in range(1, context.rounds + 1):
            for peer in context.participants(self.name, None, self.peers):
                self._sample(context, peer, number, "none", 0)
                self._sample(context, peer, number, f"{FLOOD:,} from one", FLOOD)

    def _sample(self, context: Context, peer: Peer, number: int, point: str, flood: int) -> None:
        cluster = context.cluster
        for statement in (peer.drop(), peer.create(), "CREATE TABLE arrival (tenant text, microseconds float8)"):
            cluster.sql(peer.database, statement)
        for _ in range(flood // CHUNK):
            cluster.sql(peer.database, peer.send_as("'flood'", CHUNK))
        receive = ("INSERT INTO arrival SELECT tenant, 1e6 * extract(epoch FROM waited)"
                   f" FROM ({peer.receive_timed()}) AS received;\n")
        receivers = Pgbench(cluster, peer.database, [receive], clients=RECEIVERS,
                            seconds=context.seconds or SECONDS, variables={})
        time.sleep(1)
        Pgbench(cluster, peer.database, [peer.send_as("'tenant-' || :client_id", MESSAGES)], clients=TENANTS,
                transactions=1, variables={}).finish()
        receivers.finish()
        received, median, slow = cluster.sql(
            peer.database, "SELECT count(*) || ' ' || percentile_cont(0.5) WITHIN GROUP (ORDER BY microseconds) || ' ' ||"
                           " percentile_cont(0.99) WITHIN GROUP (ORDER BY microseconds)"
                           " FROM arrival WHERE tenant <> 'flood'").split()
        if int(received) != TENANTS * MESSAGES:
            raise RuntimeError(f"{self.name}: {received} of {TENANTS * MESSAGES} messages were received in time")
        context.results.add(self.name, point, peer.name, number, p50_us=float(median), p99_us=float(slow))
        for statement in (peer.drop(), "DROP TABLE arrival"):
            cluster.sql(peer.database, statement)
