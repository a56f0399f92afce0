"""Proof of where a model's nodes really ran.

onnxruntime gives every node that a provider refuses to the CPU, with no more than a line in its log. One run with the
profiler on, in a session of its own (profiling more than doubles the time of small models), names the provider of each
node that ran.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sepconvert.errors import DeviceError
from sepconvert.runtime.devices import CPU_PROVIDER, find_device
from sepconvert.runtime.sessions import session_options, start_session

# Where a model spends its time; one of these on another provider makes a measurement worthless.
_HEAVY = ("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")


@dataclass(frozen=True, slots=True)
class ProviderProof:
    """Whether a model ran where it should.

    ``verified``: the asked provider ran nodes, and no convolution or matrix product ran elsewhere. ``warnings`` names
    the operators that did run elsewhere.
    """

    verified: bool
    warnings: tuple[str, ...] = ()


def prove_provider(
    model: bytes | Path, feeds: Mapping[str, NDArray[Any]], *, device: str = "cpu", threads: int = 1
) -> ProviderProof:
    """Run the model once with the profiler on and read which provider ran each node.

    Raises:
        DeviceError: the device is missing, or ran not a single node.
        ModelError: the model cannot run.
    """
    target = find_device(device)
    with tempfile.TemporaryDirectory(prefix="sepconvert-") as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = start_session(model, target, options, threads)
        session.run(feeds)
        text = Path(session.raw.end_profiling()).read_text(encoding="utf-8")
    return judge(read_profile(text), target.name, target.provider)


def read_profile(text: str) -> list[tuple[str, str]]:
    """Return (provider, operator) of each node that ran, from onnxruntime's profile (a JSON list of events)."""
    ran = {}
    for event in json.loads(text):
        args = event.get("args") or {}
        if event.get("cat") == "Node" and args.get("provider"):
            # The same node has several events (fence, kernel …): its name and index make it one.
            ran[event.get("name", "").removesuffix("_kernel_time"), args.get("node_index")] = (
                str(args["provider"]),
                str(args.get("op_name", "?")),
            )
    return list(ran.values())


def judge(ran: list[tuple[str, str]], device: str, provider: str) -> ProviderProof:
    """Decide whether the asked provider ran the model.

    Raises:
        DeviceError: it ran not a single node.
    """
    nodes = Counter(name for name, _ in ran)
    elsewhere = Counter(operator for name, operator in ran if name != provider)
    if nodes[provider] == 0:
        others = ", ".join(sorted(nodes)) or "no provider"
        raise DeviceError(
            f"Device '{device}' ran no node of the model ({others} ran it); {provider} supports none of its operators, "
            "so measure on another device."
        )
    heavy = sorted(operator for operator in elsewhere if operator in _HEAVY)
    warnings: tuple[str, ...] = ()
    if elsewhere:
        named = ", ".join(f"{count} {operator}" for operator, count in sorted(elsewhere.items()))
        where = "the CPU" if set(nodes) <= {provider, CPU_PROVIDER} else "other providers"
        warnings = (f"{provider} refused some nodes, which ran on {where}: {named}.",)
    return ProviderProof(not heavy, warnings)
