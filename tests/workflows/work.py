"""What onnxruntime was made to do, in counts that no other work on the machine can change."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime


@dataclass
class Work:
    """Sessions opened, bytes of the models they were opened with, and nodes run (of the graphs as they were given)."""

    sessions: int = 0
    opened_bytes: int = 0
    nodes_run: int = 0


@contextmanager
def counted_work() -> Iterator[Work]:
    """Count all work that is done inside; nothing else about onnxruntime changes."""
    work, original = Work(), onnxruntime.InferenceSession

    class Counting(original):
        def __init__(self, source: bytes | str, *arguments: Any, **options: Any) -> None:
            data = source if isinstance(source, bytes) else Path(source).read_bytes()
            work.sessions += 1
            work.opened_bytes += len(data)
            self._nodes = len(onnx.load_from_string(data).graph.node)
            super().__init__(source, *arguments, **options)

        def run(self, *arguments: Any, **options: Any) -> Any:
            work.nodes_run += self._nodes
            return super().run(*arguments, **options)

    onnxruntime.InferenceSession = Counting
    try:
        yield work
    finally:
        onnxruntime.InferenceSession = original
