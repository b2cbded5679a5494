"""The end of a process that runs for good."""

import os
import signal

import anyio
import structlog
from anyio.abc import TaskStatus

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def listen_for_signals(stop: anyio.Event, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """Set ``stop`` at SIGTERM or SIGINT; end the process at the second one."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if stop.is_set():
                os._exit(128 + number)
            log.info("stopping", signal=signal.Signals(number).name, next="again ends it at once")
            stop.set()
