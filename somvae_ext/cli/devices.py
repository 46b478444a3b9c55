"""``--device``: where to train."""

from __future__ import annotations

import re

from somvae_ext.cli.model_choice import MAP


def check_device(device: str | None, model: str) -> None:
    """Checks that a model can be trained on a device.

    Args:
        device: the value of ``--device``, if any.
        model: name of the model.

    Raises:
        ValueError: a device that is unknown, that the machine does not have, or that the model cannot be put on.
    """
    if device in (None, "auto", "cpu"):
        return
    import torch

    numbered = re.fullmatch(r"cuda(?::(\d+))?", device or "")
    if numbered is None:
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {device!r}")
    number = numbered[1]
    if number is not None and model != MAP:
        raise ValueError(
            f"--device must be auto, cpu or cuda for --model {model}, which takes the first GPU that it sees, got "
            f"{device!r}; choose a GPU by CUDA_VISIBLE_DEVICES={number} and --device cuda"
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        raise ValueError(f"--device {device} needs a GPU that torch can use, got {count or 'none'}")


def resolve_map_device(device: str | None) -> str | None:
    """Returns the device of a map; ``auto`` becomes the GPU if there is one, else the CPU."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
