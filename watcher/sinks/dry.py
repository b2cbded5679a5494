"""Say what would be delivered, and deliver nothing."""

from datetime import datetime

from watcher.model import Event
from watcher.sinks.console import ConsoleSink


class DrySink:
    """Stands in for another sink during a dry run."""

    parallel = 1

    def __init__(self, *, name: str, console: ConsoleSink) -> None:
        self.name = name
        self.target = "nowhere"
        self._console = console

    async def send(self, event: Event, *, now: datetime, replay: bool = False) -> None:  # noqa: ARG002
        """Print the event, marked as one that does not go out."""
        await self._console.print(f"would go to {self.name} as {event.id}:\n", event)
