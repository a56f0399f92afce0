"""Times of layers in a form that is laid over a drawing of the model.

It is Model Explorer's "custom node data": ``{"results": {NAME: {"value": ms}}}``, where a name is that of a tensor that
the node gives out. So ``jq .overlay.after record.json > latency.json`` makes a file that colours the written model.
"""

from collections.abc import Sequence
from typing import Any

from sepconvert.record.network import SiteRecord

# From fast to slow, as Model Explorer's own examples.
_GRADIENT = [{"stop": 0, "bgColor": "#ffffff"}, {"stop": 1, "bgColor": "#f4a261"}]


def latency_overlay(sites: Sequence[SiteRecord]) -> dict[str, Any]:
    """Return node data for the original (``before``) and the rewritten model (``after``); those without times lack.

    A site's time, in ms, stands at the node that gives out its output; of several layers that share a weight, the time
    of all at the first.
    """
    before = {site.output: site.latency_ms for site in sites}
    after = {
        site.output: site.latency_ms_after if site.status == "rewritten" else site.latency_ms
        for site in sites
        if any(site.status == "rewritten" for site in sites)
    }
    return {name: data for name, times in (("before", before), ("after", after)) if (data := _node_data(times))}


def _node_data(times: dict[str, float | None]) -> dict[str, Any]:
    results = {output: {"value": time} for output, time in times.items() if time is not None}
    return {"name": "latency (ms)", "results": results, "gradient": _GRADIENT} if results else {}
