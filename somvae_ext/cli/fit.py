"""``somvae fit``: train, evaluate, draw."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from somvae_ext.cli.configure import Setting, configure, configure_resumed
from somvae_ext.cli.evaluate import print_evaluation
from somvae_ext.cli.info import print_table
from somvae_ext.cli.pictures import add_experts, draw
from somvae_ext.cli.run_data import loaded
from somvae_ext.models import SOMVAE, MoEVAE

if TYPE_CHECKING:
    from jsonargparse import Namespace


def run(options: Namespace) -> None:
    # All imports first: a missing extra should be known before the training, not after it.
    import torch

    import somvae_ext.plotting  # noqa: F401
    from somvae_ext.training import RunFolder, clustering_metrics, evaluate, fit
    from somvae_ext.training.run_config import fingerprint, model_section
    from somvae_ext.training.trainable import Clusters

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

    def keep_experts(epoch: int) -> None:
        add_experts(model, folder, epoch)

    start = time.perf_counter()
    try:
        history = fit(
            model,
            splits.train,
            training,
            validation=splits.validation,
            metrics=measure if isinstance(model, Clusters) else None,
            after_epoch=keep_experts if isinstance(model, MoEVAE) else None,
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
    pictures = draw(model, splits, history, folder)
    print_evaluation(model, evaluation, "test", splits.kind)
    print_table({"training": f"{seconds:.1f} s", "pictures": ", ".join(str(picture) for picture in pictures)})


def _default_folder(setting: Setting) -> Path:
    """``runs/`` and the name of the data, after that of a model other than the first."""
    name = Path(setting.data["name"]).stem
    return Path("runs") / (name if setting.model is SOMVAE else f"{setting.model.name}-{name}")
