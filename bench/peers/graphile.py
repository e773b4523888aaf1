"""graphile-worker (npm), in a database of the same cluster.  Its schema is made by its own client."""

from .driven import Driven


class GraphileWorker(Driven):
    name = "graphile-worker"
    title = "graphile-worker"
    receives_batches = False
