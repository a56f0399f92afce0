"""Counts the onnxruntime sessions that timing opens, and how many are alive at once; they really run."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest

from sepconvert.runtime import engines
from sepconvert.runtime.sessions import Session


class Alive:
    """How many sessions exist now, and the most there ever were."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    def add(self, raw: Any) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        weakref.finalize(raw, self._remove)

    def _remove(self) -> None:
        self.now -= 1


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Alive:
    """Follow the sessions opened for timing sites."""
    count = Alive()
    _observe(monkeypatch, lambda session: count.add(session.raw))
    return count


@pytest.fixture
def counted_sessions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The device of every session opened for timing sites."""
    opened: list[str] = []
    _observe(monkeypatch, lambda session: opened.append(session.device.name))
    return opened


def _observe(monkeypatch: pytest.MonkeyPatch, seen: Callable[[Session], None]) -> None:
    original = engines.open_session

    def opening(*args: Any, **options: Any) -> Session:
        session = original(*args, **options)
        seen(session)
        return session

    monkeypatch.setattr(engines, "open_session", opening)
