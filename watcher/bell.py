"""Wake somebody who waits, without losing a ring that comes a moment too early."""

import anyio


class Bell:
    """Rings for one waiter. A ring while nobody waits is kept for the next wait."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake the waiter."""
        self._rung.set()

    async def wait(self, timeout_s: float) -> None:
        """Return at the next ring, or after ``timeout_s`` seconds."""
        with anyio.move_on_after(max(timeout_s, 0)):
            await self._rung.wait()
        if self._rung.is_set():
            self._rung = anyio.Event()
