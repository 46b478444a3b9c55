"""scratch"""

from typing import NamedTuple

import torch
from torch import Tensor


class AxisWeights(NamedTuple):
    rows: Tensor
    columns: Tensor


def som_update(codebook, total, count, weights, *, rate=None):
    total = total.double()
    count = (count if count.dim() == 2 else count[:, None]).double()
    if isinstance(weights, AxisWeights):
        A, B = weights.rows.double(), weights.columns.double()
        P = B.shape[0]
        R = A.shape[0]
        C = B.shape[2]

        def sm(v):
            v = v.view(R, C, -1)
            out = torch.empty_like(v)
            for q in range(P):
                T = torch.stack([B[r % P, q].T @ v[r] for r in range(R)])
                out[q::P] = torch.einsum("rs,rcd->scd", A[:, q::P], T)
            return out.view(R * C, -1)
    else:
        W = weights.double()
        sm = lambda v: W @ v
    num, den = sm(total), sm(count)
    c = codebook.double()
    return (torch.where(den > 0, num / den, c) if rate is None else c + rate * (num - den * c)).to(codebook.dtype)
