"""A record as one self-contained HTML page: no network, works from disk, every name from a model escaped."""

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from sepconvert.record import Record
from sepconvert.report import charts
from sepconvert.report.layers import tabulate
from sepconvert.report.payload import collect
from sepconvert.report.view import view

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_OPTION = re.compile(r"--[a-z][a-z0-9-]*")
_BREAK_AFTER = re.compile(r"(?<=[^/._:\-][/._:\-])(?=[^/._:\-])")
_SCRIPTS = ("core.js", "table.js", "charts.js", "network.js")


def render(record: Record) -> str:
    """Return the page of a record as HTML text."""
    from markupsafe import Markup

    table = tabulate(record)
    specs = charts.draw(record)
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            page=view(record, table, tuple(specs)),
            data=collect(record, table),
            charts=specs,
            # Our own files, the same for every page: the only text that is not escaped.
            style=Markup(_own("page.css")),
            script=Markup("\n".join(_own(name) for name in _SCRIPTS)),
            vega=charts.runtime() if specs else "",
        )
    )


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sepconvert.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters["breakable"] = _breakable
    environment.filters["options"] = _options
    return environment


def _own(name: str) -> str:
    return (files("sepconvert.report") / "templates" / name).read_text(encoding="utf-8")


def _breakable(text: str) -> "Markup":
    """Let a long name break after its separators."""
    from markupsafe import Markup

    return Markup("<wbr>").join(_BREAK_AFTER.split(text))


def _options(text: str) -> "Markup":
    """Set the options that a sentence names apart, so that no line breaks within one."""
    from markupsafe import Markup, escape

    return Markup(_OPTION.sub(r"<code>\g<0></code>", str(escape(text))))
