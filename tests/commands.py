"""A command run in this process, and what came of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def record(self) -> Any:
        """What ``--json -`` printed; None where a command failed."""
        return json.loads(self.out) if self.out else None


Run = Callable[..., Done]
