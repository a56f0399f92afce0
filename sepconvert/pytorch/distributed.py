"""Training in several processes, on one machine or more, through Lightning Fabric.

Each process runs the original on its own share of the batches and averages gradients with the others after every step.
On several machines the same command is started on each; MASTER_ADDR, MASTER_PORT and NODE_RANK tell Lightning where the
others are.
"""

from dataclasses import replace
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sepconvert.progress import Progress, silent
from sepconvert.pytorch.training import Job, Trained, train

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def train_together(job: Job, accelerator: str, devices: int, nodes: int, progress: Progress) -> Trained:
    """Run ``train`` in ``devices`` processes on each of ``nodes`` machines and return the first one's result.

    Args:
        job: the whole training.
        accelerator: ``cpu`` or ``cuda``.
        devices: processes (with a GPU each, on ``cuda``) on this machine.
        nodes: machines.
        progress: told what the first process tells.
    """
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy="ddp_spawn")
    told = torch.multiprocessing.get_context("spawn").SimpleQueue()
    listener = Thread(target=_pass_on, args=(told, progress), daemon=True)
    listener.start()
    try:
        carried: _Carried = fabric.launch(partial(_work, job=job, told=told))
    finally:
        told.put(None)
        listener.join()
    best = {name: torch.from_numpy(array) for name, array in carried.best.items()}
    return replace(carried.trained, learned=replace(carried.trained.learned, best=best))


class _Carried:
    """A result on its way between processes.

    Not a dataclass: Lightning would look for tensors inside and refuse it. No tensors: their memory would end with the
    process.
    """

    def __init__(self, trained: Trained) -> None:
        self.best = {name: tensor.numpy() for name, tensor in trained.learned.best.items()}
        self.trained = replace(trained, learned=replace(trained.learned, best={}))


def _pass_on(told: Any, progress: Progress) -> None:
    while (message := told.get()) is not None:
        progress(*message)


def _work(fabric: "Fabric", job: Job, told: Any) -> _Carried:
    """What each process does."""

    def tell(what: str, done: int, total: int) -> None:
        told.put((what, done, total))

    return _Carried(train(job, _Member(fabric), tell if fabric.global_rank == 0 else silent))


class _Member:
    """One of several processes."""

    def __init__(self, fabric: "Fabric") -> None:
        self._fabric = fabric
        self.rank, self.size, self.device = fabric.global_rank, fabric.world_size, fabric.device

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean over all processes."""
        reduced = self._fabric.all_reduce(tensor, reduce_op="mean")
        assert isinstance(reduced, Tensor)
        return reduced
