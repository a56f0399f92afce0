"""Run a command and press Ctrl-C, or send another signal."""

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def interrupted(
    command: Sequence[object],
    started: Path,
    environment: Mapping[str, str],
    *,
    after: float = 0.0,
    how: signal.Signals = signal.SIGINT,
) -> tuple[int, str]:
    """Interrupt a command ``after`` seconds from when the file ``started`` is there; give its exit code and stderr."""
    process = subprocess.Popen(
        list(map(str, command)),
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env=dict(environment),
        # Children of a background job inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not started.exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        time.sleep(after)
        assert process.poll() is None, "the command ended before it could be interrupted"
        process.send_signal(how)
        # A process that it has started and left behind would keep stderr open.
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, err
