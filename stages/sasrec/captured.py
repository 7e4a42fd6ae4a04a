"""Takes training steps on a GPU without waiting for Python: one CUDA graph holds the sampling, the loss and Adam."""

import torch
from torch import Tensor

from sasrec.sampling import DeviceSampler
from sasrec.training import Objective, TrainingState, step

EAGER_STEPS = 3  # before the capture, so that every library has chosen its kernels and allocated its workspace


class CapturedStep:
    """Takes a step at each call: the first EAGER_STEPS one operator at a time, the others by replaying their graph."""

    def __init__(self, state: TrainingState, sampler: DeviceSampler, objective: Objective) -> None:
        self.state = state
        self.sampler = sampler
        self.objective = objective
        self.stream = torch.cuda.Stream()  # a capture must not be on the default stream, nor what prepares it
        self.num_eager = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> Tensor:
        """Take the next step; return its loss, a scalar on the device, without waiting for it."""
        if self.num_eager < EAGER_STEPS:
            self.num_eager += 1
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                loss = self._step()
            torch.cuda.current_stream().wait_stream(self.stream)
            return loss
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            self.graph.register_generator_state(self.state.generator)
            with torch.cuda.graph(self.graph, stream=self.stream):  # records, and computes nothing
                self.loss = self._step()
        self.graph.replay()
        return self.loss.clone()  # the next replay writes over it

    def _step(self) -> Tensor:
        return step(self.state, self.sampler.draw(self.state.generator), self.objective)
