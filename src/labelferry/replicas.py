"""One training in several processes: each makes its share of every batch, gradients are averaged.

The process that a person started is the first of the team. It alone reads checkpoints, writes files
and tells the progress; the others are started for one training, get its state, and end with it.
"""

from __future__ import annotations

import io
import multiprocessing
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from labelferry.errors import UserError
from labelferry.workers import end_with_parent

Batch = TypeVar("Batch", Sequence[Any], Tensor)
_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
_LONGEST_STEP = timedelta(minutes=30)  # a slow loader is waited for
_PATIENCE = 5.0  # seconds until a process that has died is known as dead
_END = -1


@dataclass(frozen=True)
class Team:
    """The processes of one training, as one of them sees it."""

    rank: int
    """0 is the process that was started by a person."""
    size: int

    def device(self, device: torch.device) -> torch.device:
        """The device of this process: a GPU each, or the CPU for all; alone the one asked for."""
        return (
            torch.device("cuda", self.rank) if self.size > 1 and device.type == "cuda" else device
        )

    def share(self, batch: Batch) -> Batch:
        """What this process takes of a batch: every ``size``-th sample, so that all together take
        the batches of a single process."""
        return batch[self.rank :: self.size]

    def whole(self, share: Tensor) -> Tensor:
        """The batch whose shares (samples, ...) the processes have; without gradient."""
        own = share.detach().contiguous()
        if self.size == 1:
            return own
        shares = [torch.empty_like(own) for _ in range(self.size)]
        distributed.all_gather(shares, own)
        return torch.stack(shares, 1).flatten(0, 1)

    def average(self, weights: Iterable[nn.Parameter], values: Tensor) -> Tensor:
        """Replace every gradient by its mean over the team; the means of ``values`` (n,)."""
        if self.size == 1:
            return values.detach()
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        whole = torch.cat([*(g.flatten() for g in gradients), values.detach()])
        distributed.all_reduce(whole)
        whole /= self.size
        place = 0
        for gradient in gradients:
            gradient.copy_(whole[place : place + gradient.numel()].view_as(gradient))
            place += gradient.numel()
        return whole[place:]

    def give(self, state: Mapping[str, Any]) -> None:
        """Send a state of tensors and numbers to the others (from the first process)."""
        if self.size == 1:
            return
        stream = io.BytesIO()
        torch.save(dict(state), stream)
        distributed.broadcast_object_list([stream.getvalue()], 0, device=torch.device("cpu"))

    def get(self) -> dict[str, Any]:
        """What the first process gives; its tensors lie on the CPU."""
        given: list[bytes] = [b""]
        distributed.broadcast_object_list(given, 0, device=torch.device("cpu"))
        found = torch.load(io.BytesIO(given[0]), map_location="cpu", weights_only=True)
        return dict(found)

    def tell(self, step: int, total: int) -> None:
        """Have the others make a step (in the first process)."""
        if self.size > 1:
            distributed.broadcast(torch.tensor([step, total]), 0)

    def orders(self) -> Iterator[tuple[int, int]]:
        """The steps that the first process tells, each with the steps in all."""
        while True:
            order = torch.zeros(2, dtype=torch.int64)
            distributed.broadcast(order, 0)
            step, total = order.tolist()
            if step == _END:
                return
            yield step, total


ALONE = Team(0, 1)
"""The team of a training in one process."""


def check_devices(devices: int, batch: int, device: torch.device) -> None:
    """Raise ``UserError`` where batches cannot be divided among so many processes."""
    if batch % devices:
        raise UserError(
            "a batch cannot be divided among the devices",
            seen=f"batch {batch}, devices {devices}",
            fix="choose a batch that is a multiple of the devices",
        )
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise UserError(
            "fewer CUDA devices than asked for", seen=torch.cuda.device_count(), allowed=devices
        )


@contextmanager
def helped(
    work: Callable[..., None], arguments: Sequence[Any], devices: int, device: torch.device
) -> Iterator[Team]:
    """Start the others with ``work(team, *arguments)`` and be the first of the team.

    ``work`` and its arguments must be picklable. Raises ``UserError`` where one of them dies; all
    have ended afterwards, whatever happens.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="labelferry-") as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        shared = (devices, device.type, meeting, torch.get_num_threads())
        pipes = [context.Pipe(duplex=False) for _ in range(1, devices)]
        others = [
            context.Process(target=_help, args=(rank, ready, *shared, work, arguments))
            for rank, (_, ready) in enumerate(pipes, start=1)
        ]
        for other in others:
            other.start()
        try:
            with _ended_by_an_error(others):
                _await(others, [came for came, _ in pipes])
            with _joined(0, devices, device.type, meeting) as team, _ended_by_an_error(others):
                yield team
                team.tell(_END, 0)
        finally:
            for other in others:
                other.join()


def _await(others: Sequence[BaseProcess], came: Sequence[connection.Connection]) -> None:
    """Wait until all have started: to meet one that has died would take for ever."""
    for other, ready in zip(others, came, strict=True):
        if ready not in connection.wait([ready, other.sentinel]):
            other.join()  # its exit code is known a moment later than its end
            raise _died(f"exit code {other.exitcode}")


@contextmanager
def _ended_by_an_error(others: Sequence[BaseProcess]) -> Iterator[None]:
    """End the others when this process fails; say so where one of them was the cause."""
    try:
        yield
    except BaseException as error:
        lost = isinstance(error, RuntimeError)  # gloo's word for a connection that is gone
        dead = connection.wait([other.sentinel for other in others], _PATIENCE) if lost else ()
        for other in others:
            other.terminate()
        if not dead:
            raise
        raise _died(str(error).splitlines()[0]) from error


def _died(how: str) -> UserError:
    return UserError(
        "a process of this training has died (out of memory?)",
        seen=how,
        fix="give the same command again; with devices = 1 there is only one",
    )


def _help(
    rank: int,
    ready: connection.Connection,
    devices: int,
    kind: str,
    meeting: str,
    threads: int,
    work: Callable[..., None],
    arguments: Sequence[Any],
) -> None:
    end_with_parent()
    torch.set_num_threads(threads)
    if kind == "cuda":
        torch.cuda.set_device(rank)
    ready.send(True)
    with _joined(rank, devices, kind, meeting) as team:
        work(team, *arguments)


@contextmanager
def _joined(rank: int, size: int, kind: str, meeting: str) -> Iterator[Team]:
    distributed.init_process_group(
        _BACKENDS[kind],
        init_method=meeting,
        rank=rank,
        world_size=size,
        timeout=_LONGEST_STEP,
    )
    try:
        yield Team(rank, size)
    finally:
        distributed.destroy_process_group()
