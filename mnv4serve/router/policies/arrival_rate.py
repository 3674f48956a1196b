"""How many requests come, as counted over a sliding window."""

from collections import deque


class ArrivalRate:
    """Requests per millisecond over the last `window_ms`; remembers the times within it."""

    def __init__(self, window_ms: float) -> None:
        self._window_ms = window_ms
        self._times_ms: deque[float] = deque()
        self._first_ms: float | None = None

    def count(self, now_ms: float) -> None:
        """A request came."""
        if self._first_ms is None:
            self._first_ms = now_ms
        self._times_ms.append(now_ms)
        self._forget(now_ms)

    def per_ms(self, now_ms: float) -> float:
        """Over the whole window, or over what there is of it; 0 before two requests came."""
        self._forget(now_ms)
        if self._first_ms is None or now_ms <= self._first_ms:
            return 0.0
        return len(self._times_ms) / min(self._window_ms, now_ms - self._first_ms)

    def _forget(self, now_ms: float) -> None:
        while self._times_ms and self._times_ms[0] <= now_ms - self._window_ms:
            self._times_ms.popleft()
