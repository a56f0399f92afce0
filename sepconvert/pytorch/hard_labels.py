"""The original's own answers as labels: hard-label distillation (Touvron et al., "DeiT", ICML 2021)."""

from dataclasses import replace
from math import prod

import numpy as np

from sepconvert.data import Dataset
from sepconvert.errors import DataError
from sepconvert.runtime.sessions import open_session

BATCH = 64


def with_own_answers(original: bytes, values: tuple[str, ...], data: Dataset, device: str) -> Dataset:
    """Label inputs with the class that the original gives them.

    Args:
        original: the model that is asked, with ``values`` among its outputs.
        values: outputs before a final activation; the first that has one figure per class counts.
        data: inputs without labels.
        device: name as for ``open_session``.

    Raises:
        DataError: the inputs have labels, or no value of the model is (N, classes) or (N, classes, 1, …).
    """
    if data.labels is not None:
        raise DataError(
            f"--hard-labels takes the original's own answers for labels, but {data.origin} has labels; leave it away."
        )
    session = open_session(original, device=device)
    answers: dict[str, list[np.ndarray]] = {name: [] for name in values}
    for feeds in data.batches(data.batch or BATCH):
        count = max(len(array) for name, array in feeds.items() if name not in data.source.constant)
        for name, found in session.run(feeds, list(answers)).items():
            if found.ndim >= 2 and len(found) == count and found.shape[1] == prod(found.shape[1:]) > 1:
                answers[name].append(found.reshape(count, -1).argmax(axis=1))
            else:
                del answers[name]
        if not answers:
            raise DataError("--hard-labels needs an output of one figure per class, (N, classes); this model has none.")
    labels = np.concatenate(next(iter(answers.values())))
    return replace(data, labels=labels.astype(np.int64))
