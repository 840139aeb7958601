"""Elephas' ``parameter.client``. Both names are the same client."""

from __future__ import annotations

from typing import ClassVar

from elephas_fast.weight_service import WeightClient

__all__ = ["BaseParameterClient", "HttpClient", "SocketClient"]


class BaseParameterClient(WeightClient):
    """``get_parameters()`` and ``update_parameters(delta)``: see ``weight_service.WeightClient``."""

    client_type: ClassVar[str] = "base"

    @classmethod
    def get_client(cls, client_type: str, port: int = 4000) -> BaseParameterClient:
        """The client for ``'http'``, ``'socket'`` or the ``client_type`` of a subclass of one's own.

        Raises ``ValueError`` for anything else.
        """
        kinds = {kind.client_type: kind for kind in BaseParameterClient.__subclasses__()}
        if client_type not in kinds:
            raise ValueError(f"client_type: expected one of {', '.join(map(repr, kinds))}, got {client_type!r}")
        return kinds[client_type](port)


class HttpClient(BaseParameterClient):
    """The client of ``HttpServer``."""

    client_type = "http"


class SocketClient(BaseParameterClient):
    """The client of ``SocketServer``."""

    client_type = "socket"
