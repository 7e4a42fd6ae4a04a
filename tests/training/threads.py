"""Prints a digest of a small training of every objective for each number of threads, as JSON."""

import hashlib
import json

import msgspec
import numpy as np
import torch
from conftest import sequences, training_set
from curves import CPU, OBJECTIVES, SASREC, params_of

from sasrec.evaluation import model_scorer
from sasrec.model.params import SasrecParams
from sasrec.training import autoencoder, loop, step

# Large enough that PyTorch divides each operator among its threads.
NARROW = msgspec.structs.replace(SASREC, max_len=50, hidden_units=36)
WIDE = msgspec.structs.replace(NARROW, hidden_units=144, num_heads=1, norm_first=True)
COUNTED = msgspec.structs.replace(NARROW, init="counts")
CASES = {objective: (NARROW, objective) for objective in OBJECTIVES} | {
    "wide": (WIDE, "bce"),
    "counted": (COUNTED, "bce"),
}
RNG = np.random.default_rng(0)
TRAIN = training_set(sequences(*(RNG.permutation(900)[:length] + 1 for length in range(2, 102))), num_books=900)
NUM_STEPS = 2
NUM_THREADS = (1, 2, 3)


def digest(sasrec_params: SasrecParams, objective: str, num_threads: int) -> str:
    """The digest of the weights after some steps, and of what the model then makes of the histories."""
    torch.set_num_threads(num_threads)
    state = step.start(TRAIN, params_of(objective, batch_size=80), sasrec_params, CPU)
    take_step = loop.step_function(state, TRAIN)
    for _ in range(NUM_STEPS):
        take_step()
    autoencoder.fit(state.model.autoencoder, TRAIN.histories)
    features = model_scorer.encode_histories(state.model, TRAIN.histories)
    tensors = [*state.model.state_dict().values(), features]
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


print(json.dumps({name: [digest(*case, num_threads) for num_threads in NUM_THREADS] for name, case in CASES.items()}))
