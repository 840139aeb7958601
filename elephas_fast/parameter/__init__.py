"""Elephas' ``parameter``: servers of weights and their clients."""

from elephas_fast.parameter.client import BaseParameterClient, HttpClient, SocketClient
from elephas_fast.parameter.server import BaseParameterServer, HttpServer, SocketServer

__all__ = [
    "BaseParameterClient",
    "BaseParameterServer",
    "HttpClient",
    "HttpServer",
    "SocketClient",
    "SocketServer",
]
