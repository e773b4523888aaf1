"""The workloads by name.  One file a family; each family is a tuple called WORKLOADS."""

from . import backlog, batch, body, horizon, memory, single

ALL = {workload.name: workload for family in (single, batch, body, backlog, memory, horizon)
       for workload in family.WORKLOADS}
