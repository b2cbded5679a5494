"""Say what would be delivered, and deliver nothing."""

from datetime import datetime, timedelta

from watcher.model import Delivery, Event
from watcher.sinks.console import ConsoleSink


class DrySink:
    """Stands in for another sink during a dry run."""

    parallel = 1
    spacing = timedelta()
    most_at_once = None

    def __init__(self, *, name: str, console: ConsoleSink) -> None:
        self.name = name
        self.target = "nowhere"
        self._console = console

    async def send(self, delivery: Delivery, *, now: datetime) -> None:  # noqa: ARG002
        """Print the event, marked as one that does not go out."""
        event = delivery.event
        await self._console.print(f"would go to {self.name} as {event.id}:\n", event)

    def preview(self, event: Event, *, now: datetime) -> str:
        """Return what the console would print."""
        return self._console.preview(event, now=now)
