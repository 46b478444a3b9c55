"""Real data sets and series built from them. The digits need scikit-learn."""

from somvae_ext.data.digits import digits
from somvae_ext.data.samples import Samples, Splits
from somvae_ext.data.series import interpolated_series

__all__ = ["Samples", "Splits", "digits", "interpolated_series"]
