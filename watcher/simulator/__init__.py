"""A Ticket System API that runs on this machine, for the demo, the tests and the benchmarks."""

from watcher.simulator.faults import Fault
from watcher.simulator.records import Account, File, Key
from watcher.simulator.script import DEFAULT_SCRIPT, DEMO_SCRIPT, Script, load_script
from watcher.simulator.server import Simulator, open_simulator
from watcher.simulator.steps import Step, Timeline, play
from watcher.simulator.world import NotThereError, World

__all__ = [
    "DEFAULT_SCRIPT",
    "DEMO_SCRIPT",
    "Account",
    "Fault",
    "File",
    "Key",
    "NotThereError",
    "Script",
    "Simulator",
    "Step",
    "Timeline",
    "World",
    "load_script",
    "open_simulator",
    "play",
]
