"""Fixtures of several test files."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.place import Place, a_place


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(tmp_path) as made:
        yield made
