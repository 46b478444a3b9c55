"""Runs a test's program as one process, or as two that torchrun would have started."""

from __future__ import annotations

import os
from pathlib import Path

import children
import torch.distributed as dist


def run_one_process(*command: str | Path) -> None:
    """Runs the program as a single process, without torchrun's environment variables."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    wait_for(children.start("-W", "ignore", *command, env=environment))


def run_two_processes(*command: str | Path) -> None:
    """Runs the program as two processes in the environment that torchrun sets, with a store that this process hosts."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "tests",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    both = [
        children.start("-W", "ignore", *command, env=environment | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    try:
        for child in both:
            wait_for(child)
    finally:
        for child in both:  # if one has failed, the other still waits for it
            child.kill()


def wait_for(child: children.Child) -> None:
    _, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors[-4000:]
