"""Times of layers in a form that is laid over a drawing of the model.

It is Model Explorer's "custom node data", ``{"results": {NODE: {"value": ms}}}``, whose nodes are named as its adapter
for ONNX names them. So ``jq .overlay.after record.json > latency.json`` makes a file that colours the written model.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sepconvert.graph.load import LoadedModel
from sepconvert.record import SiteRecord

_GRADIENT = [{"stop": 0, "bgColor": "#ffffff"}, {"stop": 1, "bgColor": "#f4a261"}]  # from fast to slow


def latency_overlay(
    sites: Sequence[SiteRecord], before: LoadedModel, after: LoadedModel | None = None
) -> dict[str, Any]:
    """Return node data for the original (``before``) and the rewritten model (``after``); those without times lack.

    A site's time, in ms, stands at the node that gives out its output; of several layers that share a weight, the time
    of all at the first.
    """
    old = {site.output: site.latency_ms for site in sites}
    new = {site.output: site.latency_ms_after if site.status == "rewritten" else site.latency_ms for site in sites}
    found = {"before": _node_data(old, before)} | ({} if after is None else {"after": _node_data(new, after)})
    return {name: data for name, data in found.items() if data["results"]}


def _node_data(times: Mapping[str, float | None], model: LoadedModel) -> dict[str, Any]:
    results = {}
    for node in model.ir.graph:
        output = str(node.outputs[0].name)
        if times.get(output) is not None:
            results[node.name or output] = {"value": times[output]}
    return {"name": "latency (ms)", "results": results, "gradient": _GRADIENT}
