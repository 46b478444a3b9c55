"""Converts array-like arguments of any kind to arrays, labels and indices.

Array-likes are numpy arrays, nested lists and tuples, torch tensors on any device, and whatever numpy can convert, such
as columns and tables of pandas, polars and pyarrow. Every error is a ValueError that reads
"<owner>: <argument> must <expectation>, got <actual value>". Needs only torch and numpy.
"""

from __future__ import annotations

import functools
import numbers
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.extras import needed_by


def as_array(owner: str, name: str, values: ArrayLike | Tensor) -> NDArray[Any]:
    """Converts values to a numpy array of their own dtype, without a copy where possible.

    Tensors are detached and moved to the CPU; those of a dtype that numpy lacks (bfloat16) become float32. A list that
    mixes strings with other values becomes an array of objects: numpy would turn the others into strings, too.

    Raises:
        ValueError: a sparse tensor, masked values, or values that numpy cannot convert, such as rows of different
            lengths.
    """
    if isinstance(values, Tensor):
        check_dense(owner, name, values)
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(
            f"{owner}: {name} must not be masked, got {np.ma.count_masked(values)} masked of {values.size} values"
        )
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{owner}: {name} must be an array, got {type(values).__name__}: {error}") from error
    if array.dtype.kind == "U" and isinstance(values, list | tuple):
        objects = np.asarray(values, dtype=object)
        if not all(isinstance(value, str) for value in objects.flat):
            return objects
    return array


def table_to_array(owner: str, name: str, table: Any) -> NDArray[Any] | None:
    """Converts a polars or pyarrow table to an array ``[N, D]`` of one dtype; returns None for anything else.

    Missing values become NaN. Tables of pandas are left to numpy and scikit-learn, which can read them.

    Raises:
        ValueError: a lazy table, a table without rows or columns, or a column that holds no numbers.
    """
    if type(table).__module__.partition(".")[0] not in ("polars", "pyarrow"):
        return None
    with needed_by(owner):
        import narwhals as nw

    frame = nw.from_native(table, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        raise ValueError(f"{owner}: {name} must be a table in memory, got {type(table).__name__}; call its collect()")
    if not isinstance(frame, nw.DataFrame):
        return None
    columns = []
    for column, dtype in frame.schema.items():
        if not (dtype.is_numeric() or dtype == nw.Boolean):
            raise ValueError(
                f"{owner}: {name} must hold numbers, got {dtype} in column {column!r}; leave it out or encode it"
            )
        values = frame[column].to_numpy()
        columns.append(values.astype(np.float64) if values.dtype.kind == "O" else values)
    if not columns or len(frame) == 0:
        raise ValueError(f"{owner}: {name} must hold at least one row and one column, got {list(frame.shape)}")
    return np.column_stack(columns)


def as_real_numbers(owner: str, name: str, values: Any) -> Tensor | NDArray[Any]:
    """Checks that values are dense real numbers; returns tensors unchanged, anything else as an array of its own dtype.

    Raises:
        ValueError: sparse, masked or complex values, strings and other objects.
    """
    if isinstance(values, Tensor):
        check_dense(owner, name, values)
        if values.is_complex():
            raise ValueError(f"{owner}: {name} must hold real numbers, got {values.dtype}")
        return values
    table = table_to_array(owner, name, values)
    array = as_array(owner, name, values) if table is None else table
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{owner}: {name} must hold real numbers, got {_dtype_name(array)}")
    return array


def match_input_type(result: Tensor, like: Any) -> Tensor | NDArray[Any]:
    """Returns the result as a tensor on the device of ``like`` if that is a tensor, else as a numpy array."""
    return result.to(like.device) if isinstance(like, Tensor) else result.cpu().numpy()


def as_floats(owner: str, name: str, values: ArrayLike | Tensor) -> Tensor:
    """Converts real numbers to a detached floating-point tensor. Tensors stay on their device; arrays go to the CPU.

    Floating-point dtypes are kept, except those that torch lacks, which become float64. Booleans and integers of up to
    16 bits become float32, longer integers float64.

    Raises:
        ValueError: a sparse tensor, complex numbers, or values that are not numbers.
    """
    if isinstance(values, Tensor):
        check_dense(owner, name, values)
        if values.is_complex():
            raise ValueError(f"{owner}: {name} must hold real numbers, got {values.dtype}")
        values = values.detach()
        if values.is_floating_point():
            return values
        return values.to(torch.float32 if values.dtype.itemsize <= 2 else torch.float64)
    array = as_array(owner, name, values)
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{owner}: {name} must hold real numbers, got objects: {error}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{owner}: {name} must hold real numbers, got {_dtype_name(array)}")
    if array.dtype.kind == "f":
        dtype = array.dtype.type if array.dtype.itemsize <= 8 else np.float64
    else:
        dtype = np.float32 if array.dtype.itemsize <= 2 else np.float64
    with warnings.catch_warnings():
        # The array may be read-only, such as that of a file or a table; the tensor is never written to.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array, dtype=dtype).reshape(array.shape))


def as_common_floats(owner: str, **arguments: ArrayLike | Tensor) -> tuple[Tensor, ...]:
    """Converts the arguments as :func:`as_floats` does, and to a common dtype and device.

    The dtype is the one that torch promotes all of theirs to. Arrays go to the device of the tensors.

    Raises:
        ValueError: tensors on different devices, or an argument that :func:`as_floats` refuses.
    """
    tensors = {name: as_floats(owner, name, values) for name, values in arguments.items()}
    devices = {name: values.device for name, values in arguments.items() if isinstance(values, Tensor)}
    if len(set(devices.values())) > 1:
        raise ValueError(
            f"{owner}: {' and '.join(devices)} must be on the same device, got "
            f"{' and '.join(str(device) for device in devices.values())}"
        )
    device = next(iter(devices.values()), torch.device("cpu"))
    dtype = functools.reduce(torch.promote_types, (values.dtype for values in tensors.values()))
    return tuple(values.to(device, dtype) for values in tensors.values())


def as_integers(owner: str, name: str, values: ArrayLike | Tensor) -> Tensor:
    """Converts integers or booleans to an int64 tensor. Tensors stay on their device; arrays go to the CPU.

    Empty values may have any dtype, because numpy makes an empty list an array of floats.

    Raises:
        ValueError: floats, whole numbers included, missing values, strings, or integers beyond int64.
    """
    if isinstance(values, Tensor):
        check_dense(owner, name, values)
        if values.numel() == 0 or not (
            values.is_floating_point() or values.is_complex() or values.dtype == torch.uint64
        ):
            return values.detach().to(torch.int64)
    array = _without_objects(as_array(owner, name, values))
    if array.size and (array.dtype.kind == "u" or all(isinstance(value, numbers.Integral) for value in array.flat)):
        limits = np.iinfo(np.int64)
        for end in (int(array.max()), int(array.min())):
            if not limits.min <= end <= limits.max:
                raise ValueError(f"{owner}: {name} must be integers that int64 holds, got {end}")
    if array.size and array.dtype.kind not in "biu":
        raise ValueError(f"{owner}: {name} must be integers, got {_describe_values(array)}")
    return torch.from_numpy(array.astype(np.int64))


def as_indices(owner: str, name: str, values: ArrayLike | Tensor, size: int) -> Tensor:
    """Converts indices of nodes, clusters or classes as :func:`as_integers` does, and checks that they are in range.

    Raises:
        ValueError: an index outside 0 to ``size`` - 1, or values that :func:`as_integers` refuses.
    """
    indices = as_integers(owner, name, values)
    if indices.numel():
        low, high = (int(end) for end in indices.aminmax())
        if low < 0 or high >= size:
            raise ValueError(f"{owner}: {name} must hold values from 0 to {size - 1}, got {low if low < 0 else high}")
    return indices


def as_labels(owner: str, name: str, values: ArrayLike | Tensor) -> NDArray[Any]:
    """Converts class labels to a numpy array of integers, booleans or strings.

    Raises:
        ValueError: floats, whole numbers included, missing values, or other objects.
    """
    array = _without_objects(as_array(owner, name, values))
    if array.size and array.dtype.kind not in "biuU":
        raise ValueError(f"{owner}: {name} must be integers, booleans or strings, got {_describe_values(array)}")
    return array


def as_label_numbers(owner: str, name: str, values: ArrayLike | Tensor) -> Tensor:
    """Numbers the labels of :func:`as_labels`, int64: equal labels get equal numbers, integer tensors keep theirs."""
    if isinstance(values, Tensor) and not (values.is_floating_point() or values.is_complex()):
        return as_integers(owner, name, values)
    labels = as_labels(owner, name, values)
    return torch.from_numpy(np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int64))


def as_booleans(owner: str, name: str, values: ArrayLike | Tensor) -> Tensor:
    """Converts booleans to a tensor. Tensors stay on their device; arrays go to the CPU.

    Raises:
        ValueError: another dtype; integers used as an index would select values by position.
    """
    if isinstance(values, Tensor) and values.dtype == torch.bool:
        check_dense(owner, name, values)
        return values.detach()
    array = _without_objects(as_array(owner, name, values))
    if array.size and array.dtype.kind != "b":
        raise ValueError(f"{owner}: {name} must be booleans, got {_dtype_name(array)}")
    return torch.from_numpy(array.astype(np.bool_))


def check_dense(owner: str, name: str, values: Tensor) -> None:
    if values.layout != torch.strided:
        layout = str(values.layout).removeprefix("torch.")
        raise ValueError(f"{owner}: {name} must be dense, got a tensor of layout {layout}; call its to_dense()")


def _without_objects(array: NDArray[Any]) -> NDArray[Any]:
    """Converts an array of objects that are all strings, booleans or integers to that dtype; keeps other arrays."""
    if array.dtype.kind not in "OT":  # T: numpy's strings of variable length
        return array
    for kind, dtype in ((str, np.str_), (bool | np.bool_, np.bool_), (numbers.Integral, np.int64)):
        if all(isinstance(value, kind) for value in array.flat):
            try:
                return np.array(array.tolist(), dtype=dtype).reshape(array.shape)
            except OverflowError:  # an integer beyond int64
                return array
    return array


def _describe_values(array: NDArray[Any]) -> str:
    """Describes values that are not integers (or strings), for the end of an error message."""
    values = array.ravel().tolist() if array.dtype.kind in "fOT" else []
    missing = next((at for at, value in enumerate(values) if _is_missing(value)), None)
    if missing is not None:
        place = [int(along) for along in np.unravel_index(missing, array.shape)]
        return f"{values[missing]} at position {place[0] if len(place) == 1 else place}; leave out what is missing"
    if array.dtype.kind == "f":
        return f"{_dtype_name(array)}; convert whole numbers to int64 first"
    return _dtype_name(array)


def _is_missing(value: Any) -> bool:
    """Whether a value is None, NaN or a missing value of pandas."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # comparing pandas.NA gives pandas.NA, which has no truth value
        return True


def _dtype_name(array: NDArray[Any]) -> str:
    if array.dtype.kind in "UT":
        return "strings"
    if array.dtype.kind == "O":
        kinds = {type(value).__name__ for value in array.flat}
        return f"objects of type {', '.join(sorted(kinds))}"
    return str(array.dtype)
