"""Ending a training early: signals and limits."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any


class StopRequest:
    """Ctrl-C and SIGTERM ask for an end after the current step; a second one ends the program at once.

    Used as a context manager. Outside the main thread signals are left alone.

    Args:
        max_hours: ask for an end after so long, or None.
        max_steps: ask for an end after so many steps in this call, or None.
        began: when the call began, by `time.monotonic`; None: now.
    """

    def __init__(
        self, max_hours: float | None = None, max_steps: int | None = None, began: float | None = None
    ) -> None:
        self.max_hours, self.max_steps = max_hours, max_steps
        self.number: int | None = None
        self._began = time.monotonic() if began is None else began
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def code(self, steps: int) -> int:
        """0 to go on; the number of the signal; or -1 where a limit is reached after `steps` steps of this call."""
        if self.number is not None:
            return self.number
        late = self.max_hours is not None and time.monotonic() - self._began >= 3600 * self.max_hours
        return -1 if late or (self.max_steps is not None and steps >= self.max_steps) else 0
