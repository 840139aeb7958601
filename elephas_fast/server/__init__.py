"""The server: decode a message, ask the gate, act on the store, reply."""

from elephas_fast.server.gate import FOREVER, Gate
from elephas_fast.server.process import ServerLost, ServerProcess
from elephas_fast.server.server import ParameterServer

__all__ = ["FOREVER", "Gate", "ParameterServer", "ServerLost", "ServerProcess"]
