"""Elephas' ``parameter.factory``."""

from __future__ import annotations

from typing import Any

from elephas_fast.parameter.client import BaseParameterClient, HttpClient, SocketClient
from elephas_fast.parameter.server import BaseParameterServer, HttpServer, SocketServer

__all__ = ["ClientServerFactory", "HttpFactory", "SocketFactory"]


class ClientServerFactory:
    """Makes servers, and clients that fit them."""

    _server: type[BaseParameterServer]
    _client: type[BaseParameterClient]

    @classmethod
    def get_factory(cls, _type: str) -> ClientServerFactory:
        """The factory for ``'http'`` or ``'socket'``; ``ValueError`` for anything else."""
        if _type not in _FACTORIES:
            raise ValueError(f"_type: expected 'http' or 'socket', got {_type!r}")
        return _FACTORIES[_type]()

    def create_client(self, *args: Any, **kwargs: Any) -> BaseParameterClient:
        """A client, of the arguments of ``HttpClient``."""
        return self._client(*args, **kwargs)

    def create_server(self, *args: Any, **kwargs: Any) -> BaseParameterServer:
        """A server, of the arguments of ``HttpServer``."""
        return self._server(*args, **kwargs)


class HttpFactory(ClientServerFactory):
    """Makes ``HttpServer`` and ``HttpClient``."""

    _server, _client = HttpServer, HttpClient


class SocketFactory(ClientServerFactory):
    """Makes ``SocketServer`` and ``SocketClient``."""

    _server, _client = SocketServer, SocketClient


_FACTORIES: dict[str, type[ClientServerFactory]] = {"http": HttpFactory, "socket": SocketFactory}
