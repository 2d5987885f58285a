"""What the controller does beside deciding."""

import importlib
import sys
from pathlib import Path
from typing import cast

import pytest

from fleetctl.controller import app

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))
from memory_streams import in_virtual_time, now


class Fleet:
    """A controller that gets a gang with spares when it has been asked often enough."""

    asked = 0

    def has_spares(self) -> bool:
        self.asked += 1
        return self.asked > 3


@in_virtual_time
async def test_what_places_lost_ranks_is_loaded_once_a_gang_has_spares(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[str, float]] = []

    async def at_once(work: object, name: str) -> None:
        assert work is importlib.import_module
        loaded.append((name, now()))

    began = now()
    monkeypatch.setattr(app.asyncio, "to_thread", at_once)
    await app._ready_to_place(cast(app.Controller, Fleet()))
    assert loaded == [("networkx", began + 3 * app.LOOK_FOR_SPARES_S)]
