"""The workloads by name.  One file a family; each family is a tuple called WORKLOADS."""

from . import backlog, batch, body, fair, fifo, horizon, memory, single, systems, topic, waiting

ALL = {workload.name: workload
       for family in (single, batch, body, backlog, memory, fifo, fair, topic, waiting, systems, horizon)
       for workload in family.WORKLOADS}
