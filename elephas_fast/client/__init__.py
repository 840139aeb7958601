"""A worker's side of the parameter server.

``connect`` takes the nearest way in: the shared segment where the server is on this host, else ipc or tcp.
"""

from elephas_fast.client.client import Client, Receipt, Turn, connect
from elephas_fast.client.conversation import PushRefused, ServerUnreachable

__all__ = ["Client", "PushRefused", "Receipt", "ServerUnreachable", "Turn", "connect"]
