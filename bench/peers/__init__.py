"""Peers: one file each, with one class.  `ALL` lists them in the order of the tables."""

from .graphile import GraphileWorker
from .pgboss import PgBoss
from .pgmq import Pgmq
from .pgq import Pgq
from .pigeon import Pigeon, PigeonSends
from .plain import Plain
from .rabbitmq import RabbitMq
from .redis import Redis
from .topics import AttributeFilters, BodyFilters, Bulk, BulkBatch, BulkSends, PgmqTopics, Unfiltered

ALL = {peer.name: peer for peer in (Pigeon(), Plain(), Pgmq(), Pgq(), PgBoss(), GraphileWorker(), RabbitMq(), Redis(),
                                    PigeonSends(), PgmqTopics(), Unfiltered(), AttributeFilters(), BodyFilters(), Bulk(),
                                    BulkBatch(), BulkSends())}
