"""One contender's end of the conversation with the driver: JSON lines on stdin and stdout.

A request is `{"call": NAME, ...arguments}`; the reply is `{"result": {...}}` or `{"error": TEXT}`. Standard
library only, because peers run it with their own interpreter. Whatever a library prints goes to stderr
instead.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

Handler = Callable[..., Mapping[str, Any]]


def serve(handlers: Mapping[str, Handler]) -> None:
    """Answers requests until stdin ends; file descriptor 1 is stderr from here on, for children too."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        name = request.pop("call")
        try:
            reply: dict[str, Any] = {"result": dict(handlers[name](**request))}
        except Exception:
            reply = {"error": traceback.format_exc()}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
