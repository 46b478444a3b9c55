"""The experiment on patients finds the hidden states of synthetic patients."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from eicu_files import write_eicu_folder

from somvae_ext import evaluation
from somvae_ext.data.eicu import read_eicu, rows_by_patient
from somvae_ext.experiments import EXPERIMENTS
from somvae_ext.experiments.datasets import fingerprint_source, load_choice, load_labels
from somvae_ext.experiments.nodes import Nodes, measure_scores
from somvae_ext.experiments.protocol import DataChoice, Outcome, Task

TITLES = ["k-means", "SOM-VAE-prob, ordered", "SOM-VAE-prob, ordered, window"]


@pytest.mark.parametrize("title", TITLES)
def test_nodes_recover_the_hidden_states_of_patients(title: str, tmp_path: Path) -> None:
    planted = write_eicu_folder(tmp_path, num_patients=60, hours=40)
    (method,) = [row.method for row in EXPERIMENTS["eicu"].rows if row.method.title == title]
    seen: list[Nodes] = []

    def measure(nodes: Nodes, task: Task) -> Outcome:
        seen.append(nodes)
        return measure_scores(nodes, task)

    method = dataclasses.replace(method, measure=measure)  # type: ignore[type-var]
    splits, labels = load_choice(DataChoice("eicu"), str(tmp_path)), load_labels("eicu", str(tmp_path), "test")
    task = Task(DataChoice("eicu"), splits, 0.5, 0, "test", "cpu", labels)
    outcome = method.train(method.settings[0], task)
    stays = read_eicu(tmp_path)
    assert stays.stay_ids.tolist() == planted.stay_ids.tolist()
    test = rows_by_patient(stays)[2]
    (nodes,) = seen
    state = torch.as_tensor(planted.states)[test]
    hours = state.shape[1]
    mask = nodes.mask[:, :hours]
    index = nodes.held_out[:, :hours][mask]
    assert evaluation.purity(state[mask], index) > 0.9
    noise = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(0))]
    score = labels["score_24h"][:, :hours][mask]
    known = score >= 0
    assert outcome.figures["nmi_score_24h"] > 2 * evaluation.nmi(score[known], noise[known])


def test_scores_are_not_used_for_training(tmp_path: Path) -> None:
    write_eicu_folder(tmp_path, num_patients=20, hours=30)
    splits = load_choice(DataChoice("eicu"), str(tmp_path))
    assert all(part.label is None for part in splits)
    labels = load_labels("eicu", str(tmp_path), "validation")
    assert set(labels) == {"score_6h", "score_12h", "score_24h", "stay_score"}
    assert all(len(label) == len(splits.validation) for label in labels.values())
    assert fingerprint_source("eicu", str(tmp_path))
