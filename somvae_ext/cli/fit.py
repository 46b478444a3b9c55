"""``somvae fit``: train, evaluate, draw."""

from __future__ import annotations

import dataclasses
import shutil
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

    from somvae_ext.training import RunFolder

_CANDIDATES = "seeds"  # where the trainings of --best-of are, in the run's folder


def run(options: Namespace) -> None:
    # All imports first: a missing extra should be known before the training, not after it.
    import torch

    import somvae_ext.plotting  # noqa: F401
    from somvae_ext.training import RunFolder, evaluate

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
    start = time.perf_counter()
    if options.best_of is None:
        model, history = _train(setting, folder, options)
        if options.overwrite:
            _remove_candidates(folder)
    else:
        model, history = _train_best(setting, folder, options)
    seconds = time.perf_counter() - start
    splits = setting.splits
    evaluation = evaluate(model, splits.test, train=splits.train)
    folder.save_evaluation("test", evaluation)
    pictures = draw(model, splits, history, folder)
    print_evaluation(model, evaluation, "test", splits.kind)
    print_table({"training": f"{seconds:.1f} s", "pictures": ", ".join(str(picture) for picture in pictures)})


def _train(setting: Setting, folder: RunFolder, options: Namespace) -> tuple[Any, list[dict[str, Any]]]:
    """The trained model, and the records of its epochs."""
    import torch

    from somvae_ext.training import clustering_metrics, fit
    from somvae_ext.training.run_config import fingerprint, model_section
    from somvae_ext.training.trainable import Clusters

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
    return model, history


def _train_best(setting: Setting, folder: RunFolder, options: Namespace) -> tuple[Any, list[dict[str, Any]]]:
    """Of trainings with several seeds the one of the least validation loss, without a look at labels."""
    from somvae_ext.training import RunFolder

    _remove_candidates(folder)
    first, losses, best = setting.training.seed, {}, None
    for seed in range(first, first + options.best_of):
        candidate = RunFolder(folder.path / _CANDIDATES / str(seed), overwrite=options.overwrite)
        training = dataclasses.replace(setting.training, seed=seed)
        try:
            model, history = _train(setting._replace(training=training), candidate, options)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; the trainings so far are runs of their own in {candidate.path.parent}; to choose among "
                "all of them, start again with --overwrite"
            ) from None
        kind, losses[seed] = _choice_loss(history[-1]["validation"])
        print(f"seed {seed}: {kind} {losses[seed]:.6g} on validation data", flush=True)
        if best is None or losses[seed] < losses[best[0]]:
            best = seed, model, history, candidate
    assert best is not None
    seed, model, history, candidate = best
    folder.adopt(candidate, {"chosen": seed, "by": f"least {kind} on validation data", "seeds": losses})
    print_table({"chosen": f"seed {seed} of {len(losses)}, by the least {kind} on validation data"})
    return model, history


def _choice_loss(losses: dict[str, float]) -> tuple[str, float]:
    """By what seeds are compared, and its value.

    Of a SOM-VAE the reconstruction from the codes, which tells how much a node says of its samples. Terms that pull
    encodings and codes together are least where all are in one place.
    """
    if "reconstruction_q" in losses:
        return "reconstruction loss of the codes", losses["reconstruction_q"]
    return "loss", losses["total"]


def _remove_candidates(folder: RunFolder) -> None:
    """Removes the trainings among which an earlier run was chosen."""
    candidates = folder.path / _CANDIDATES
    if candidates.is_dir() and all((path / folder.CONFIG).is_file() for path in candidates.iterdir()):
        shutil.rmtree(candidates)


def _default_folder(setting: Setting) -> Path:
    """``runs/`` and the name of the data, after that of a model other than the first."""
    name = Path(setting.data["name"]).stem
    return Path("runs") / (name if setting.model is SOMVAE else f"{setting.model.name}-{name}")
