"""Elephas' ``parameter.server``. Both names are the same server, which speaks neither HTTP nor pickle."""

from __future__ import annotations

from typing import Any

from elephas_fast.config import refuse_unknown
from elephas_fast.weight_service import WeightServer

__all__ = ["BaseParameterServer", "HttpServer", "SocketServer"]
_OWN = ("custom_objects", "host", "optimizer")
_FLASK = ("debug", "threaded", "use_reloader")


class BaseParameterServer(WeightServer):
    """``BaseParameterServer(model, port, mode, custom_objects=...)``: see ``weight_service.WeightServer``.

    ``debug``, ``threaded`` and ``use_reloader``, which Elephas gave to Flask, are accepted and mean nothing.
    """

    def __init__(self, model: Any, port: int | None = 4000, mode: str = "asynchronous", **kwargs: Any) -> None:
        refuse_unknown(kwargs, [*_OWN, *_FLASK], f"keyword of {type(self).__name__}")
        super().__init__(model, port, mode, **{name: value for name, value in kwargs.items() if name in _OWN})


class HttpServer(BaseParameterServer):
    """Elephas' name for its server on Flask."""


class SocketServer(BaseParameterServer):
    """Elephas' name for its server on a plain socket."""
