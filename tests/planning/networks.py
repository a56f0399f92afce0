"""Sites and options made up for tests of planning, and a machine that behaves as it is told."""

from collections.abc import Sequence

from sepconvert.graph.sites import ConvSite
from sepconvert.planning.architecture import never
from sepconvert.planning.plans import NetworkPlan, PlannedSite, SiteOption, Timed
from sepconvert.planning.speedup import Enough
from sepconvert.planning.within_budget import Choices
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.scheme import Scheme


def make_site(name: str, channels: int = 64, size: int | None = 14) -> ConvSite:
    """A 3×3 site with as many outputs as inputs."""
    geometry = ConvGeometry(channels, channels, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    return ConvSite(
        name, name, f"{name}_in", f"{name}_w", None, "float32", geometry.at(None if size is None else (size, size))
    )


def make_option(site: ConvSite, rank: int, damage: float, ms: float | None = None) -> SiteOption:
    """``pw_dw_pw`` at a rank; dense takes 10 ms."""
    dense = None if ms is None else 10.0
    return SiteOption(
        Scheme("pw_dw_pw", rank, "stacked"), damage, (damage,), ms, dense, None if ms is None else "measured"
    )


def make_choices(sites: int = 3, size: int | None = 14) -> Choices:
    """Each site: dense 10 ms, 8 ms at damage 1, 4 ms at damage 3, 2 ms at damage 9; each site loses 10× the last."""
    found = [make_site(f"s{i}", size=size) for i in range(sites)]
    options = []
    for i, site in enumerate(found):
        scale = 1e-4 * 10**i
        options.append(
            (
                SiteOption(ms=10.0, dense_ms=10.0),
                make_option(site, 96, 1 * scale, 8.0),
                make_option(site, 48, 3 * scale, 4.0),
                make_option(site, 16, 9 * scale, 2.0),
            )
        )
    return Choices(tuple(found), tuple(options), {})


def make_fine_choices(sites: int = 8, ranks: int = 40) -> Choices:
    """Each site: dense 10 ms, and many ranks in small steps of time; what a rank loses falls with its square."""
    found = [make_site(f"s{i}") for i in range(sites)]
    options = []
    for i, site in enumerate(found):
        shares = [(rank + 1) / (ranks + 2) for rank in range(ranks)]
        made = [make_option(site, rank + 1, 1e-4 * (i + 1) / s**2, 10.0 * s) for rank, s in enumerate(shares)]
        options.append((SiteOption(ms=10.0, dense_ms=10.0), *made))
    return Choices(tuple(found), tuple(options), {})


def damage_of(plan: NetworkPlan) -> float:
    """What a plan is predicted to lose."""
    return sum(planned.option.damage for planned in plan.sites)


class Machine:
    """Measures plans: the original takes ``rest`` + 10 ms per site; savings come true by the factor ``honesty``.

    While plans are measured, everything takes ``pace`` times as long.
    """

    def __init__(self, rest: float = 10.0, honesty: float = 1.0, noise: float = 0.0, pace: float = 1.0) -> None:
        self.rest, self.honesty, self.noise, self.pace = rest, honesty, noise, pace
        self.plans: list[tuple[PlannedSite, ...]] = []

    def before_ms(self, choices: Choices) -> float:
        return self.rest + 10.0 * len(choices.sites)

    def __call__(self, planned: Sequence[PlannedSite], enough: Enough = never) -> Timed:
        self.plans.append(tuple(planned))
        before = self.rest + 10.0 * len(planned)
        after = before - self.honesty * sum(site.option.saved_ms for site in planned)
        ratio = before / after
        return Timed(self.pace * before, self.pace * after, ratio, ratio - self.noise, ratio + self.noise)
