"""Real programs that some tests drive; where one is missing, its tests are skipped, unless all are wanted."""

import os
import shutil

import pytest

#: Set by `.ci/run`, which installs them all: then a missing one is a failure.
ALL_ARE_WANTED = bool(os.environ.get("WATCHER_TESTS_NEED_EVERY_PROGRAM"))


def needs(*programs: str) -> pytest.MarkDecorator:
    """Return the mark of a test that runs these programs."""
    missing = [program for program in programs if not shutil.which(program)]
    return pytest.mark.skipif(bool(missing) and not ALL_ARE_WANTED, reason=f"not installed: {', '.join(missing)}")
