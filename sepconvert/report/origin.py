"""Where a record comes from, and how to make it again, as plain data."""

import shlex

from sepconvert.record import Record
from sepconvert.report import figures
from sepconvert.report.layers import Pairs


def environment_pairs(record: Record) -> Pairs:
    """Return where and with what the record was made."""
    env = record.environment
    versions = ", ".join(f"{name} {version}" for name, version in env.versions.items() if name != record.tool.name)
    pairs = (
        ("Processor", f"{env.cpu}, {figures.plural(env.cores, 'core')}"),
        ("Threads for timing", str(env.threads)),
        ("Devices", ", ".join(env.devices)),
        ("System", f"{env.platform}, Python {env.python}"),
        ("Versions", f"{record.tool.name} {record.tool.version}, {versions}"),
        ("Made", env.time),
    )
    return tuple((label, value) for label, value in pairs if value)


def file_pairs(record: Record) -> Pairs:
    """Return the model files with their checksums, so that a reader can be sure to have the same ones."""
    pairs = []
    for label, file in (("Original", record.source), ("New model", record.output)):
        if file is not None:
            pairs.append((label, file.path + ("" if file.bytes is None else f" ({figures.size(file.bytes)})")))
            pairs.append((f"SHA-256 of the {label.lower()}", file.sha256 or figures.UNKNOWN))
    return tuple(pairs)


def input_pairs(record: Record) -> Pairs:
    """Return the model's inputs with the shape that was counted and timed."""
    pairs = []
    for item in record.inputs:
        declared = figures.dimensions(item.declared_shape)
        used = figures.dimensions(item.used_shape, "an unknown shape")
        pairs.append((item.name, f"{item.dtype}, declared {declared}, counted at {used}"))
    return tuple(pairs)


def reproduce(record: Record) -> str | None:
    """Return the shell line that does it again, or None where the arguments were not recorded."""
    return f"sepconvert {shlex.join(record.arguments)}" if record.arguments else None
