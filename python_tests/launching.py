"""Runs a test's program as one process, or as two that torchrun would have started."""

from __future__ import annotations

import os
from pathlib import Path

import children
import torch.distributed as dist


def alone(*command: str | Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    wait_for(children.start("-W", "ignore", *command, env=environment))


def by_two(*command: str | Path) -> None:
    """With the environment that torchrun gives to its processes, and with this process's store in place of its own."""
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
        for child in both:  # one waits for the other, which may have failed
            child.kill()


def wait_for(child: children.Child) -> None:
    _, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors[-4000:]
