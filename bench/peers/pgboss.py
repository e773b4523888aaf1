"""pg-boss (npm), in a database of the same cluster.  Its schema is made by its own client."""

from .driven import Driven


class PgBoss(Driven):
    name = "pg-boss"
    title = "pg-boss"
