"""The tables and figures of the literature as commands: ``somvae experiment NAME``.

Needs the extra ``experiments``.
"""

from somvae_ext.experiments.eicu import EICU
from somvae_ext.experiments.hardening import HARDENING
from somvae_ext.experiments.lorenz import LORENZ
from somvae_ext.experiments.map512 import MAP512
from somvae_ext.experiments.page import page_path, render_page, write_page
from somvae_ext.experiments.protocol import FULL, QUICK, Budget, Experiment, Row, Setting, Size
from somvae_ext.experiments.run import run_experiment
from somvae_ext.experiments.table1 import TABLE1
from somvae_ext.experiments.table2 import TABLE2
from somvae_ext.experiments.vitals import VITALS

EXPERIMENTS = {experiment.name: experiment for experiment in (TABLE1, TABLE2, MAP512, HARDENING, LORENZ, VITALS, EICU)}
"""The experiments, by the name of the command."""

__all__ = [
    "EXPERIMENTS",
    "FULL",
    "QUICK",
    "Budget",
    "Experiment",
    "Row",
    "Setting",
    "Size",
    "page_path",
    "render_page",
    "run_experiment",
    "write_page",
]
