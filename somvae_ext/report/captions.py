"""Captions that tell a reader what each picture of a result shows: a title and a sentence."""

from __future__ import annotations

import re
from typing import NamedTuple

from somvae_ext.report import model_pictures

_PAGE = re.compile(r"(?P<name>.+)-(?P<page>\d+)\.png")


class Caption(NamedTuple):
    """The title of a picture, and a sentence that says what it shows and what the colors mean."""

    title: str
    sentence: str


CAPTIONS = {
    "hits.png": Caption(
        "Hits",
        "Number of training samples that each node won: dark blue for few, yellow for many; empty cells won none.",
    ),
    "u_matrix.png": Caption(
        "U-matrix",
        "Distances between the codes of neighboring nodes: dark ridges separate light areas of similar nodes.",
    ),
    "component_planes.png": Caption(
        "Component planes",
        "One map for each feature, colored by the feature's values in the codes, from dark blue for low to yellow for "
        "high; features with similar planes are correlated.",
    ),
    "labels.png": Caption(
        "Labels",
        "The color of each node shows the most frequent class among its training samples; the paler it is, the more "
        "samples belong to other classes. Empty cells won none.",
    ),
    "rgb.png": Caption(
        "Codes as colors",
        "Each code as a color, whose red, green and blue are its first three principal components, or its values if it "
        "has three from 0 to 1. Nodes of similar colors have similar codes.",
    ),
    "clusters.png": Caption(
        "Clusters",
        "Groups of nodes with similar codes, each with its own color and number, separated by black lines.",
    ),
    "codebook_images.png": Caption(
        "Codes as images",
        "The code of each node as an image; the small number says how many training samples the node won.",
    ),
    model_pictures.RECONSTRUCTIONS_PICTURE: Caption(
        "Reconstructions", "Pairs of a test sample (left) and its reconstruction by the model (right)."
    ),
    model_pictures.SAMPLES_PICTURE: Caption("Samples", "Images that the model generated from random latent points."),
    model_pictures.CATEGORIES_PICTURE: Caption(
        "Samples of each category",
        "Images that the model generated: a row for each class, category or expert, a column for each latent point.",
    ),
    model_pictures.CATEGORY_PICTURE: Caption(
        "Samples of one category", "Images of one category that the model generated from random latent points."
    ),
    model_pictures.SIDE_BY_SIDE_PICTURE: Caption(
        "Two models side by side", "Images that two models generated from the same latent points."
    ),
    model_pictures.EXPERTS_PICTURE: Caption(
        "Experts in training",
        "What each expert (column) generated from one and the same latent point after each epoch (row).",
    ),
    model_pictures.CONTINGENCY_PICTURE: Caption(
        "Clusters and classes",
        "Number of test samples of each class (column) in each cluster (row); the darker the blue, the larger the "
        "share of the class in the cluster. Clusters with the same most frequent class stand together.",
    ),
    model_pictures.MAP_PICTURE: Caption(
        "Decoded map",
        "What each node stands for, at its place on the map; the small number says how many training samples it won.",
    ),
    model_pictures.TRANSITIONS_PICTURE: Caption(
        "Transitions",
        "Probability that a series moves from one node (row) to another (column), or stays (diagonal), from dark blue "
        "for 0 to yellow for 1.",
    ),
    model_pictures.TRANSITION_GRAPH_PICTURE: Caption(
        "Moves between nodes",
        "Wider and darker arrows are more likely moves, larger discs are nodes that were visited more often, and the "
        "dark part of the ring around a node is the probability of staying there.",
    ),
    model_pictures.TRAJECTORY_PICTURE: Caption(
        "Paths of series",
        "Test series as paths over the map, from dark blue at the start to yellow at the end; larger dots are longer "
        "stays, and darker cells won more training samples.",
    ),
    model_pictures.DURATIONS_PICTURE: Caption(
        "How long series stay in a node",
        "The blue line is the share of stays that last at least the given number of frames; the dashed gray line is "
        "that of a chain without memory.",
    ),
    model_pictures.CURVES_PICTURE: Caption(
        "Training",
        "Measurements in each epoch of the training: losses or errors, which should fall, and, if they were recorded, "
        "scores of the clusters and the order of the map.",
    ),
    model_pictures.ITERATIONS_PICTURE: Caption(
        "Losses of the training steps",
        "The losses of each step. In a long training, lines are means over several steps, and shades span their "
        "smallest and largest values.",
    ),
}
"""Captions by the names of the pictures' files."""


def caption_of(name: str) -> Caption | None:
    """Returns the caption of a picture by the name of its file; further pages have their page number in the title.

    Files that are no picture of a result have none.
    """
    if name in CAPTIONS:
        return CAPTIONS[name]
    page = _PAGE.fullmatch(name)
    first = None if page is None else CAPTIONS.get(f"{page['name']}.png")
    return None if page is None or first is None else first._replace(title=f"{first.title}, page {page['page']}")
