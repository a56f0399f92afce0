"""The data that every site's profile needs, collected in one walk of the calibration inputs through the original."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.fitting.sampling import Judge, SiteSample
from sepconvert.fitting.sizes import batch_size, largest_value, value_sizes
from sepconvert.fitting.spool import Spool, give_back
from sepconvert.fitting.streams import Stream, StreamBatch, share_of, start_stream
from sepconvert.fitting.targets import find_targets, pooled_scale
from sepconvert.graph.batch_axes import batch_axes
from sepconvert.graph.behind_site import cut_behind
from sepconvert.graph.joined import OutputPart, output_parts
from sepconvert.graph.layer_weights import read_kernel
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.save import runnable
from sepconvert.graph.segments import Segment, Stop, plan_segments
from sepconvert.graph.shapes import Shapes, infer_shapes
from sepconvert.graph.site_models import Surroundings
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.ties import in_graph_order
from sepconvert.graph.uses import values_behind
from sepconvert.planning.candidates import rank_ladder
from sepconvert.planning.profile_effort import ProfileEffort
from sepconvert.planning.sensitivity import Replay
from sepconvert.progress import Progress, milestones
from sepconvert.runtime.sessions import Arrays, Session, open_session
from sepconvert.separable.fitted import fit_work
from sepconvert.separable.forms import FORMS
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.groups import Moments
from sepconvert.verify.deviation import Axes, Deviation, by_sample


def probing(geometry: ConvGeometry) -> tuple[str, ...]:
    """Forms whose fits probe a site's sensitivity, whichever forms may be chosen: those of ``auto``.

    What a candidate is predicted to cost must not depend on which others are considered: more choice would give worse
    plans. For the same reason no form is left out because another one looks better at one rank. Where none of ``auto``
    is for such a layer, as for a pointwise or linear one, all that are probe it.
    """
    usable = [name for name in FORMS if rank_ladder(name, geometry)]
    return tuple(name for name in usable if FORMS[name].AUTO) or tuple(usable)


@dataclass(frozen=True, slots=True)
class SiteTask:
    """One site's share of the work; it can be sent to another process.

    ``forms`` may be chosen, those ``probing`` tell the sensitivity.
    """

    weight: NDArray[np.float64]
    moments: Moments
    judge: Judge
    forms: tuple[str, ...]
    probing: tuple[str, ...]
    effort: ProfileEffort
    replay: Replay


class TaskWalk:
    """The stream's way from site to site, leaving a task at each."""

    def __init__(
        self,
        model: LoadedModel,
        sites: Sequence[ConvSite],
        forms: Sequence[str],
        effort: ProfileEffort,
        rng: np.random.Generator,
        progress: Progress,
    ) -> None:
        self._model, self._forms, self._effort, self._rng = model, forms, effort, rng
        self._progress = progress
        self._sites = {site.output: site for site in sites}
        self._targets = find_targets(model, in_graph_order(model, sites))
        self._parts: tuple[OutputPart, ...] = ()
        self._observed: tuple[str, ...] = ()
        self._variances: dict[str, float] = {}
        self._axes: Axes = {}

    def tasks(self, dataset: Dataset) -> Iterator[SiteTask]:
        """Collect data at site after site."""
        effort = self._effort
        used = dataset.sample(effort.inputs, self._rng)
        fitted, heldout = used.split(effort.heldout, self._rng)
        shapes = infer_shapes(self._model, used.shapes())
        size = value_sizes(shapes)
        judged = [part for found in output_parts(self._model, shapes).values() for part in found]
        felt = values_behind(self._model.ir.graph, [target.site.output for target in self._targets])
        # What no site reaches feels none; such outputs may be inputs or constants, which no node computes.
        judged = [part for part in judged if part.value in felt and _is_numeric(part.value, shapes)]
        self._parts = tuple(dict.fromkeys(judged))
        self._observed = tuple(dict.fromkeys(part.value for part in self._parts))
        self._axes = batch_axes(self._model, shapes)
        segments = plan_segments(self._model, self._stops(), size)
        largest = largest_value(shapes, size)
        with Spool(effort.memory_budget) as spool:
            stream, batches = start_stream(spool, fitted, heldout, min(effort.batch, batch_size(shapes, size)))
            values = sum(size(name) for name in self._observed) // 4
            replayed = self._replayed(batches, largest, max(values, 1))
            expected = self._expected(stream, batches, replayed)
            stream.advance(self._open(stream, segments[0].before), segments[0].before)
            sites = [self._sites.get(target.site.output) for target in self._targets]
            *before, end = milestones(self._works(sites, used.count, sum(batches[i].samples for i in replayed)))
            for done, site, target, segment in zip(before, sites, self._targets, segments, strict=False):
                self._progress(f"Profile: {target.site.name}", done, end)
                if site is not None:
                    yield self._task(stream, batches, replayed, expected, site, segment)
                elif segment.after:  # a further use of a weight, looked at with the first
                    stream.advance(self._open(stream, segment.after), segment.after)
                give_back()
            self._progress("Profile", end, end)
            stream.close()

    def _works(self, sites: Sequence[ConvSite | None], inputs: int, replayed: int) -> list[float]:
        """Multiply-adds that every site takes, about: its fits, itself, and the sites behind it in every replay."""
        works, behind = [], 0.0
        for site in reversed(sites):
            own = 0.0 if site is None else float(site.geometry.dense_cost.macs or 0)
            behind += own
            fits = 0.0 if site is None else len(self._forms) * fit_work(site.geometry)
            works.append(fits + inputs * own + (self._effort.probes * replayed * behind if site is not None else 0.0))
        return works[::-1]

    def _stops(self) -> list[Stop]:
        """The sites, and behind the last one what the observed values still need."""
        stops = [Stop(target.site.output, target.own_needs, target.site.product) for target in self._targets]
        order = [str(value.name) for node in self._model.ir.graph for value in node.outputs]
        behind = sorted(set(self._observed) - {stops[-1].site}, key=order.index)
        if behind and order.index(behind[-1]) > order.index(stops[-1].site):
            return [*stops, Stop(behind[-1], tuple(behind[:-1]))]
        return [*stops[:-1], replace(stops[-1], needs=(*stops[-1].needs, *behind))]

    def _task(
        self,
        stream: Stream,
        batches: Sequence[StreamBatch],
        replayed: Sequence[int],
        expected: Sequence[Arrays],
        site: ConvSite,
        segment: Segment,
    ) -> SiteTask:
        """Collect one site's patches and what its replay needs, and move the stream on."""
        effort = self._effort
        targets = [target for target in self._targets if target.site.output in site.outputs]
        weight = read_kernel(self._model, site)
        reached = values_behind(self._model.ir.graph, site.outputs)
        parts = tuple(part for part in self._parts if part.value in reached)
        observed = tuple(name for name in self._observed if name in reached)
        rest = cut_behind(self._model, site, stream.types(), observed)
        sample = SiteSample(site.geometry, effort.memory_budget)
        inputs, live = [], []
        needs = [name for target in targets for name in target.own_needs]
        names = list(dict.fromkeys([*segment.after, *needs, *site.outputs]))
        part = self._open(stream, names)
        for index, batch in enumerate(batches):
            values = stream.run(part, names, index)
            wanted = effort.sampling.wanted(site.geometry, heldout=batch.heldout) / len(targets)
            share = share_of(wanted, batch, batches)
            for target in targets:
                sample.add(target.sight(values), target.plain(values), share, self._rng, heldout=batch.heldout)
            if index in replayed:
                inputs.append({use.input: values[use.input] for use in site.uses})
                held = stream.run(None, [name for name in rest.fed if name != site.output], index)
                live.append(held | {output: values[output] for output in site.outputs})
            stream.settle(index, values, segment.after)
        around, scale = Surroundings.of(self._model.ir), pooled_scale(targets)
        replay = Replay(
            site,
            rest,
            parts,
            tuple(inputs),
            tuple(live),
            tuple({name: values[name] for name in observed} for values in expected),
            {part.name: self._variances[part.name] for part in parts if part.name in self._variances},
            around,
            scale,
            tuple(batches[index].samples for index in replayed),
            {name: self._axes[name] for name in observed if name in self._axes},
        )
        return SiteTask(
            weight.astype(np.float64),
            tuple(replace(known, cross=None) for known in sample.moments()),
            sample.judge(scale),
            tuple(self._forms),
            probing(site.geometry),
            effort,
            replay,
        )

    def _replayed(self, batches: Sequence[StreamBatch], largest: int, values: int) -> list[int]:
        """Batches spread over all; an input's largest value takes ``largest`` bytes, its outputs are ``values``."""
        effort = self._effort
        # Held at once: a site's input, its output, and about one more value.
        wanted = min(-(-effort.replayed_values // values), effort.replayed_bytes // (3 * largest))
        inputs = int(np.clip(wanted, effort.replayed_least, effort.replayed))
        count = min(len(batches), -(-inputs // max(batch.samples for batch in batches)))
        return [int(place) for place in np.linspace(0, len(batches) - 1, count).round()]

    def _expected(self, stream: Stream, batches: Sequence[StreamBatch], replayed: Sequence[int]) -> list[Arrays]:
        """The observed values of the original, and of some inputs more how much the parts vary."""
        part = self._open(stream, self._observed)
        found, seen = [], {one: Deviation() for one in self._parts}
        wanted = -(-self._effort.answered // max(batch.samples for batch in batches))
        others = np.linspace(0, len(batches) - 1, min(len(batches), wanted)).round()
        for index in sorted({*replayed, *map(int, others)}):
            values = stream.run(part, self._observed, index)
            if index in replayed:
                found.append(values)
            for one, deviation in seen.items():
                y = by_sample(one.value, one.of(values[one.value]), batches[index].samples, self._axes)
                deviation.add(y, y)
        known = {one.name: deviation.variance for one, deviation in seen.items()}
        self._variances = {name: variance for name, variance in known.items() if variance is not None}
        return found

    def _open(self, stream: Stream, names: Sequence[str]) -> Session | None:
        part = stream.part(self._model, names)
        return None if part is None else open_session(runnable(part), arena=False)


def _is_numeric(name: str, shapes: Shapes) -> bool:
    """Whether a value can be compared: a tensor of numbers, neither text nor a sequence."""
    return name not in shapes.no_tensors and shapes.dtypes.get(name) not in ("object", "str")
