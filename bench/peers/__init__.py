"""Peers: one file each, with one class.  `ALL` lists them in the order of the tables."""

from .pgmq import Pgmq
from .pgq import Pgq
from .pigeon import Pigeon, PigeonSends
from .plain import Plain

ALL = {peer.name: peer for peer in (Pigeon(), Plain(), Pgmq(), Pgq(), PigeonSends())}
