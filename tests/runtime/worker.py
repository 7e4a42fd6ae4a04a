"""Connects to other processes and waits until it is ended: python worker.py NUMBER_OF_PROCESSES [early | late].

The last process fails before it is connected (early) or after it (late).
"""

import sys
import time

import torch

from sasrec.core import errors
from sasrec.runtime import launch


def main() -> None:
    """Say so once, when all are connected."""
    launch.GRACE_SECONDS = 1.0
    world = launch.world_of(int(sys.argv[1]))
    fails = sys.argv[2:] if world.rank == world.size - 1 else []
    if fails == ["early"]:
        raise errors.UserError("no room")
    with launch.connected(world, torch.device("cpu")):
        if fails == ["late"]:
            raise errors.UserError("no room")
        world.sum(torch.zeros(1))
        if world.is_main:
            print("connected", flush=True)
        time.sleep(3600)  # without a word to the others, as in a long step


if __name__ == "__main__":
    errors.run(main)
