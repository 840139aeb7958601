"""What the fault suite shares with the server's tests.

``pytest tests/faults`` is the short form; with ``--soak`` (``make soak``) the same tests have their long one. Tests
take their numbers from ``how_many`` and say what they really did with ``injected``, which ends up in the summary and,
with ``--injected FILE``, in a JSON file.
"""

from __future__ import annotations

from tests.server.conftest import _crew_of_eight, _zero_copy_thread, crew, impatient, nothing_left

__all__ = ["_crew_of_eight", "_zero_copy_thread", "crew", "impatient", "nothing_left"]
