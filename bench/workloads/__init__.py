"""The workloads by name.  One file a family; each family is a tuple called WORKLOADS."""

from . import backlog, batch, body, fifo, horizon, memory, single, systems, topic, waiting

ALL = {workload.name: workload for family in (single, batch, body, backlog, memory, fifo, topic, waiting, systems, horizon)
       for workload in family.WORKLOADS}
