"""What each picture of a result shows, for those who look at it: a title and a sentence."""

from __future__ import annotations

import re
from typing import NamedTuple

from somvae_ext.report import model_pictures

_PAGE = re.compile(r"(?P<name>.+)-(?P<page>\d+)\.png")


class Caption(NamedTuple):
    """Title of a picture, and a sentence that says what is seen and what the colours mean."""

    title: str
    sentence: str


CAPTIONS = {
    "hits.png": Caption(
        "Hits",
        "Training samples that each node won: the brighter the more, from dark blue to yellow; empty cells won none.",
    ),
    "u_matrix.png": Caption(
        "U-matrix",
        "How far apart the codes of neighbours are: dark ridges separate light areas of similar nodes.",
    ),
    "component_planes.png": Caption(
        "Component planes",
        "The map once for each feature, coloured by the value of the codes, from dark blue for low to yellow for high; "
        "features with similar planes are correlated.",
    ),
    "labels.png": Caption(
        "Labels",
        "The most frequent class among the training samples of each node, by colour: the paler it is, the more samples "
        "are of other classes; empty cells won none.",
    ),
    "rgb.png": Caption(
        "Codes as colours",
        "Each code as a mixture of red, green and blue, by its first three principal components: nodes of like colours "
        "are alike.",
    ),
    "clusters.png": Caption(
        "Clusters",
        "Groups of nodes whose codes are alike, with their numbers inside, each in its colour, between black lines.",
    ),
    "codebook_images.png": Caption(
        "Codes as images",
        "The code of each node as an image; the small numbers are the training samples that the node won.",
    ),
    model_pictures.RECONSTRUCTIONS_PICTURE: Caption(
        "Reconstructions", "Pairs of a test sample, left, and what the model made of it, right beside it."
    ),
    model_pictures.SAMPLES_PICTURE: Caption(
        "Samples", "Images that the model made of latent points sampled at random."
    ),
    model_pictures.CATEGORIES_PICTURE: Caption(
        "Samples of each category",
        "Images that the model made: a row for each class, category or expert, a column for each latent point.",
    ),
    model_pictures.CATEGORY_PICTURE: Caption(
        "Samples of one category", "Images that the model made of latent points sampled at random, all of one category."
    ),
    model_pictures.SIDE_BY_SIDE_PICTURE: Caption(
        "Two models side by side", "Images that two models made of the same latent points."
    ),
    model_pictures.EXPERTS_PICTURE: Caption(
        "Experts in training",
        "What each expert, a column, made of one and the same latent point after each epoch, a row.",
    ),
    model_pictures.CONTINGENCY_PICTURE: Caption(
        "Clusters and classes",
        "How many test samples of each class, a column, are in each cluster, a row; the darker the blue, the larger is "
        "the class's share of the cluster, and clusters of the same class stand together.",
    ),
    model_pictures.MAP_PICTURE: Caption(
        "Decoded map",
        "What each node stands for, at its place on the map; the small numbers are the training samples that it won.",
    ),
    model_pictures.TRANSITIONS_PICTURE: Caption(
        "Transitions",
        "How likely a series moves from each node, a row, to each other, a column: the brighter the likelier, from "
        "dark blue for 0 to yellow for 1.",
    ),
    model_pictures.TRANSITION_GRAPH_PICTURE: Caption(
        "Moves between nodes",
        "Wider, darker arrows are more likely moves, larger discs nodes that were visited more often, "
        "and the dark part of the ring around a node is the probability of staying there.",
    ),
    model_pictures.TRAJECTORY_PICTURE: Caption(
        "Paths of series",
        "Test series as paths over the map, from dark blue at the start to yellow at the end; larger dots are longer "
        "stays, and darker cells won more training samples.",
    ),
    model_pictures.DURATIONS_PICTURE: Caption(
        "How long series stay in a node",
        "The share of stays that last at least so many frames, in blue; the dashed grey line is what a chain without "
        "memory would do.",
    ),
    model_pictures.CURVES_PICTURE: Caption(
        "Training",
        "What was measured in each epoch of the training: losses or errors, which should fall, and, where they were "
        "recorded, scores of the clusters and the order of the map.",
    ),
    model_pictures.ITERATIONS_PICTURE: Caption(
        "Losses of the training steps",
        "The losses of each step; of long trainings lines are means of several steps, in a shade from the least to the "
        "greatest.",
    ),
}
"""By the names of their files."""


def caption_of(name: str) -> Caption | None:
    """The caption of a picture by the name of its file; further pages have their page number in the title.

    None for files that are no picture of a result.
    """
    if name in CAPTIONS:
        return CAPTIONS[name]
    page = _PAGE.fullmatch(name)
    first = None if page is None else CAPTIONS.get(f"{page['name']}.png")
    return None if page is None or first is None else first._replace(title=f"{first.title}, page {page['page']}")
