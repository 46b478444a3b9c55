"""Conversion of array-likes, labels and node indices: dtype, device and shared memory of the result."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import children
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from somvae_ext.arrays import (
    as_array,
    as_booleans,
    as_common_floats,
    as_floats,
    as_indices,
    as_integers,
    as_label_numbers,
    as_labels,
)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.ones(2, np.float16), torch.float16),
        (np.ones(2, np.float32), torch.float32),
        (np.ones(2), torch.float64),
        (np.ones(2, np.longdouble), torch.float64),
        (np.ones(2, ">f4"), torch.float32),
        (np.ones(2, np.bool_), torch.float32),
        (np.ones(2, np.uint8), torch.float32),
        (np.ones(2, np.int16), torch.float32),
        (np.ones(2, np.uint32), torch.float64),
        (np.ones(2, np.int64), torch.float64),
        (np.ones(2, object), torch.float64),
        ([1, 1], torch.float64),
        (pd.Series([1, 1], dtype="Int64"), torch.float64),
        (torch.ones(2, dtype=torch.bfloat16), torch.bfloat16),
        (torch.ones(2, dtype=torch.float64), torch.float64),
        (torch.ones(2, dtype=torch.int16), torch.float32),
        (torch.ones(2, dtype=torch.int64), torch.float64),
    ],
    ids=repr,
)
def test_numbers_become_floats_that_hold_them(values: Any, dtype: torch.dtype) -> None:
    floats = as_floats("f", "x", values)
    assert floats.dtype == dtype
    assert floats.tolist() == [1, 1]


@given(arrays.arrays(arrays.integer_dtypes(sizes=(8, 16)), st.integers(0, 5)))
def test_short_integers_keep_their_values_in_float32(values: Any) -> None:
    assert as_floats("f", "x", values).tolist() == values.tolist()


def test_floats_share_memory_with_writable_and_read_only_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6.0).reshape(2, 3))
    of_file = np.load(tmp_path / "x.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_floats("f", "x", of_file).data_ptr() == of_file.ctypes.data
        assert as_floats("f", "x", pd.DataFrame(np.eye(3))).tolist() == np.eye(3).tolist()
    tensor = torch.rand(3)
    assert as_floats("f", "x", tensor).data_ptr() == tensor.data_ptr()
    assert not as_floats("f", "x", torch.nn.Parameter(tensor)).requires_grad
    assert as_floats("f", "x", np.arange(6.0)[::-2]).tolist() == [5, 3, 1]
    assert as_floats("f", "x", np.float64(3)).shape == ()


@pytest.mark.parametrize(
    ("x", "codebook", "dtype"),
    [
        (np.ones((1, 2)), torch.ones(1, 2), torch.float64),
        (np.ones((1, 2), np.float32), torch.ones(1, 2), torch.float32),
        (torch.ones(1, 2).half(), torch.ones(1, 2).bfloat16(), torch.float32),
        (torch.ones(1, 2).half(), torch.ones(1, 2).half(), torch.float16),
        (np.ones((1, 2), np.int64), torch.ones(1, 2), torch.float64),
        (np.ones((1, 2), np.uint8), torch.ones(1, 2).half(), torch.float32),
    ],
    ids=repr,
)
def test_the_common_dtype_holds_the_values_of_both_inputs(x: Any, codebook: Any, dtype: torch.dtype) -> None:
    assert [values.dtype for values in as_common_floats("f", x=x, codebook=codebook)] == [dtype, dtype]
    assert [values.dtype for values in as_common_floats("f", x=codebook, codebook=x)] == [dtype, dtype]


def test_arrays_go_to_the_device_of_the_tensors(device: torch.device) -> None:
    both = as_common_floats("f", x=np.ones(2), codebook=torch.ones(2, device=device))
    assert {values.device.type for values in both} == {device.type}
    assert as_integers("f", "index", torch.tensor([True], device=device)).device.type == device.type
    assert as_array("f", "x", torch.ones(2, device=device)).tolist() == [1, 1]


@given(arrays.arrays(arrays.integer_dtypes() | arrays.unsigned_integer_dtypes(), st.integers(0, 6)))
def test_integers_keep_their_values_and_labels_their_classes(values: Any) -> None:
    assert as_labels("f", "label", values).tolist() == values.tolist()
    codes = as_label_numbers("f", "label", values)
    assert codes.dtype == torch.int64
    same = values[:, None] == values
    assert ((codes[:, None] == codes).numpy() == same).all()
    if values.size == 0 or values.max() < 2**63:
        assert as_integers("f", "index", values).tolist() == values.tolist()
        assert as_integers("f", "index", values.tolist()).dtype == torch.int64


def test_a_list_that_mixes_strings_with_others_is_not_all_strings() -> None:
    assert as_array("f", "x", ["a", float("nan")]).dtype == object
    assert as_array("f", "x", [["a", "b"], ["c", 1]]).tolist() == [["a", "b"], ["c", 1]]
    assert as_array("f", "x", [["a", "b"]]).dtype.kind == "U"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: as_array("f", "x", [[1], [1, 2]]), "f: x must be an array, got list: .* inhomogeneous"),
        (
            lambda: as_array("f", "x", torch.eye(2).to_sparse_csr()),
            "f: x must be dense, got a tensor of layout sparse_csr",
        ),
        (
            lambda: as_integers("f", "x", [[0, 1], [2, None]]),
            r"f: x must be integers, got None at position \[1, 1\]; leave",
        ),
        (lambda: as_integers("f", "x", None), r"f: x must be integers, got None at position \[\]"),
        (lambda: as_integers("f", "x", [2**70]), f"f: x must be integers that int64 holds, got {2**70}$"),
        (lambda: as_integers("f", "x", [-(2**63) - 1]), f"f: x must be integers that int64 holds, got {-(2**63) - 1}$"),
        (
            lambda: as_integers("f", "x", torch.tensor([2**63 + 5], dtype=torch.uint64)),
            f"f: x must be integers that int64 holds, got {2**63 + 5}$",
        ),
        (lambda: as_indices("f", "x", [0, 4], 4), "f: x must hold values from 0 to 3, got 4$"),
        (lambda: as_indices("f", "x", [0, -1], 4), "f: x must hold values from 0 to 3, got -1$"),
        (lambda: as_labels("f", "x", [b"a"]), r"f: x must be integers, booleans or strings, got \|S1$"),
        (lambda: as_floats("f", "x", [["a"]]), "f: x must hold real numbers, got strings$"),
        (lambda: as_floats("f", "x", [object()]), "f: x must hold real numbers, got objects: "),
        (lambda: as_booleans("f", "x", torch.eye(2).bool().to_sparse()), "f: x must be dense"),
        (lambda: as_booleans("f", "x", [True, None]), "f: x must be booleans, got objects of type NoneType, bool$"),
    ],
)
def test_unsupported_values_are_refused_with_an_error_that_names_the_argument(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def test_the_ops_and_the_evaluation_of_arrays_need_only_torch_and_numpy() -> None:
    code = (
        "import sys, somvae_ext.ops, somvae_ext.arrays, somvae_ext.evaluation;"
        "assert not {'pandas', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)"
    )
    done = children.run("-W", "ignore", "-c", code, imported=children.TORCH)
    assert done.returncode == 0, done.stderr
