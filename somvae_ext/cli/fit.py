"""``somvae fit``: train, evaluate, draw."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from somvae_ext.cli.configure import Setting, configure, configure_resumed
from somvae_ext.cli.evaluate import print_evaluation
from somvae_ext.cli.info import print_table
from somvae_ext.cli.run_data import loaded
from somvae_ext.models import SOMVAE

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from somvae_ext.cli.run_data import AnySplits
    from somvae_ext.training import RunFolder

# Nodes of the largest map whose K x K transition matrix is drawn: on a larger one a step is less than a pixel.
_LARGEST_MATRIX = 4096


def run(options: Namespace) -> None:
    # All imports first: a missing extra should be known before the training, not after it.
    import torch

    import somvae_ext.plotting  # noqa: F401
    from somvae_ext.training import RunFolder, clustering_metrics, evaluate, fit
    from somvae_ext.training.loop import Clusters
    from somvae_ext.training.run_config import fingerprint, model_section

    # Whatever can be known to fail is refused before the folder is touched.
    if torch.distributed.is_torchelastic_launched():
        raise ValueError("somvae fit is one process and must not be started by torchrun; call training.fit in a script")
    if options.accelerator == "cuda" and not torch.cuda.is_available():
        raise ValueError("--accelerator cuda needs a GPU that torch can use, got none")
    if options.resume is None:
        setting = configure(options)
        folder = RunFolder(options.out or _default_folder(setting), overwrite=options.overwrite)
    else:
        folder = RunFolder.open(options.resume)
        setting = configure_resumed(options, folder)
    data, splits, make_model, config, training, threads = setting
    torch.set_num_threads(threads)
    torch.manual_seed(training.seed)
    model: Any = make_model(config)
    folder.save_config(
        {
            "model": model_section(make_model, config),
            "training": dataclasses.asdict(training),
            "data": data
            | {
                "kind": splits.kind,
                "scaling": splits.scaling.to_dict(),
                "feature_names": splits.train.feature_names,
                "fingerprint": fingerprint(loaded(data, splits)),
            },
            "threads": threads,
        }
    )

    def measure() -> dict[str, float]:
        return clustering_metrics(model, splits.train if splits.validation is None else splits.validation)

    start = time.perf_counter()
    try:
        history = fit(
            model,
            splits.train,
            training,
            validation=splits.validation,
            metrics=measure if isinstance(model, Clusters) else None,
            run_folder=folder,
            resume=options.resume is not None,
            accelerator=options.accelerator or "auto",
        )
    except KeyboardInterrupt:
        if not folder.has_checkpoint:
            raise KeyboardInterrupt("interrupted before an epoch was complete") from None
        raise KeyboardInterrupt(
            f"interrupted; {folder.path} keeps the last complete epoch, and somvae fit --resume {folder.path} goes on "
            "from there"
        ) from None
    seconds = time.perf_counter() - start
    evaluation = evaluate(model, splits.test, train=splits.train)
    folder.save_evaluation("test", evaluation)
    pictures = _draw(model, splits, history, folder)
    print_evaluation(model, evaluation, "test", splits.kind)
    print_table({"training": f"{seconds:.1f} s", "pictures": ", ".join(str(picture) for picture in pictures)})


def _default_folder(setting: Setting) -> Path:
    """``runs/`` and the name of the data, after that of a model other than the first."""
    name = Path(setting.data["name"]).stem
    return Path("runs") / (name if setting.model is SOMVAE else f"{setting.model.name}-{name}")


def _draw(model: SOMVAE, splits: AnySplits, history: list[dict[str, Any]], folder: RunFolder) -> list[Path]:
    import torch
    from matplotlib.figure import Figure

    from somvae_ext import plotting
    from somvae_ext.training import encode

    pictures = []
    config = model.config
    if len(config.input_shape) == 3 and config.input_shape[0] in (1, 3):
        encodings = encode(model, splits.train)
        hits = torch.bincount(encodings.real(encodings.indices), minlength=config.grid.num_nodes)
        hits = hits.view(config.rows, config.cols)
        axes = plotting.plot_decoded_map(model.decoded_map(), hits, topology=config.topology)
        pictures.append(folder.save_figure(folder.MAP, _figure(axes)))
    curves = Figure(figsize=(10, 4), layout="constrained")
    left, right = curves.subplots(1, 2)
    plotting.plot_losses(history, ax=left)
    plotting.plot_quality(history, ax=right)
    pictures.append(folder.save_figure(folder.CURVES, curves))
    if model.transitions is not None and model.transitions.num_nodes <= _LARGEST_MATRIX:
        axes = plotting.plot_transitions(model.transitions.matrix())
        pictures.append(folder.save_figure(folder.TRANSITIONS, _figure(axes)))
    return pictures


def _figure(axes: Axes) -> Figure:
    return cast("Figure", axes.figure)
