"""Tensors as safetensors files without pickle: named tensors, and trees of containers, numbers and tensors."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

_PLAIN = (str, int, float, bool, type(None))


def tensors_to_bytes(tensors: dict[str, Tensor]) -> bytes:
    """Returns the content of a safetensors file with these tensors."""
    from safetensors.torch import save

    return save({name: _copy_to_cpu(tensor) for name, tensor in tensors.items()})


def tensors_from_bytes(content: bytes) -> dict[str, Tensor]:
    """Reads the tensors of a safetensors file, on the CPU.

    Raises:
        ValueError: the content is not such a file.
    """
    return _read(content)[0]


def tree_to_bytes(tree: Any) -> bytes:
    """Returns the content of a safetensors file for a tree of dicts, lists, tuples, numbers, text, None and tensors.

    The tensors are numbered. The tree, with these numbers in place of the tensors, is JSON in the file's metadata.

    Raises:
        TypeError: something else in the tree.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    structure = _to_json(tree, tensors)
    return save(tensors, metadata={"tree": json.dumps(structure)})


def tree_from_bytes(content: bytes) -> Any:
    """Restores the tree that :func:`tree_to_bytes` was given, with its tensors on the CPU.

    Raises:
        ValueError: the content holds no such tree.
    """
    tensors, metadata = _read(content)
    try:
        return _from_json(json.loads(metadata["tree"]), tensors)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError("it holds no tree of tensors") from error


def _read(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError, RecursionError) as error:
        raise ValueError("it is no safetensors file that this version can read") from error
    metadata = header.get("__metadata__") or {}
    return tensors, metadata


def _to_json(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """Converts a tree to JSON's types: plain values stay as they are, all others become ``{kind: content}``."""
    if isinstance(tree, Tensor):
        name = str(len(tensors))
        tensors[name] = _copy_to_cpu(tree)
        return {"tensor": name}
    if isinstance(tree, _PLAIN):
        return tree
    if isinstance(tree, dict):
        for key in tree:
            if not isinstance(key, (str, int)):
                raise TypeError(f"a key must be text or an integer to be written, got {key!r}")
        # Pairs, not an object, keep the types of keys: optimizers number parameters by integers.
        return {"dict": [[key, _to_json(value, tensors)] for key, value in tree.items()]}
    if type(tree) in (list, tuple):  # named tuples would come back as plain ones
        return {type(tree).__name__: [_to_json(value, tensors) for value in tree]}
    raise TypeError(f"a state must consist of containers, numbers and tensors to be written, got {type(tree)}")


def _from_json(structure: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(structure, dict):
        return structure
    ((kind, content),) = structure.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _from_json(value, tensors) for key, value in content}
    return {"list": list, "tuple": tuple}[kind](_from_json(value, tensors) for value in content)


def _copy_to_cpu(tensor: Tensor) -> Tensor:
    """Copies a tensor to its own memory on the CPU: safetensors refuses tensors that share memory."""
    return torch.empty_like(tensor, device="cpu", memory_format=torch.contiguous_format).copy_(tensor.detach())
