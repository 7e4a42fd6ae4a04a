"""Runs a training step on a GPU as one CUDA graph, so that the GPU never waits for Python."""

import torch
from torch import Tensor

from sasrec.training.sampling import DeviceSampler
from sasrec.training.step import TrainingState, step
from sasrec.training.training_loss import TrainingLoss

EAGER_STEPS = 3  # before the capture: libraries choose kernels and allocate workspaces in the first steps


class CapturedStep:
    """A step function: each call samples a batch, computes the loss and updates the weights.

    The first EAGER_STEPS calls run operator by operator. Later calls replay a CUDA graph of the step.
    """

    def __init__(self, state: TrainingState, sampler: DeviceSampler, training_loss: TrainingLoss) -> None:
        self.state = state
        self.sampler = sampler
        self.training_loss = training_loss
        self.stream = torch.cuda.Stream()  # neither the capture nor the eager steps may use the default stream
        self.num_eager = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> Tensor:
        """Start the next step and return its loss, a scalar on the device, without waiting for it."""
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
            with torch.cuda.graph(self.graph, stream=self.stream):  # records without computing
                self.loss = self._step()
        self.graph.replay()
        return self.loss.clone()  # the next replay overwrites it

    def _step(self) -> Tensor:
        return step(self.state, self.sampler.draw(self.state.generator), self.training_loss)
