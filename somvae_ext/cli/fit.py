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
    elif options.best_of is None:
        folder = RunFolder.open(options.resume)
        setting = configure_resumed(options, folder)
    else:
        first = _first_candidate(Path(options.resume), options.best_of)
        setting = configure_resumed(options, first, may_be_complete=True)
        folder = RunFolder(options.resume, overwrite=True)
    start = time.perf_counter()
    if options.best_of is None:
        model, history = _train(setting, folder, options, resume=options.resume is not None)
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


def _train(
    setting: Setting, folder: RunFolder, options: Namespace, *, resume: bool
) -> tuple[Any, list[dict[str, Any]]]:
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
            resume=resume,
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
    """Of trainings with several seeds the one of the least validation loss, without a look at labels.

    Those that an interrupted command has completed are taken as they are.
    """
    from somvae_ext.training import load_model

    if options.resume is None:
        _remove_candidates(folder)
    first = setting.training.seed
    losses: dict[int, float] = {}
    for seed in range(first, first + options.best_of):
        training = dataclasses.replace(setting.training, seed=seed)
        candidate, epochs_done = _candidate(folder, seed, go_on=options.resume is not None)
        if epochs_done > training.epochs:
            raise ValueError(f"--epochs must be at least the {epochs_done} that {candidate.path} has completed")
        if epochs_done < training.epochs:
            try:
                _train(setting._replace(training=training), candidate, options, resume=epochs_done > 0)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"interrupted; the trainings so far are runs of their own in {candidate.path.parent}; somvae fit "
                    f"--resume {folder.path} --best-of {options.best_of} goes on"
                ) from None
        kind, losses[seed] = _choice_loss(candidate.load_metrics()[-1]["validation"])
        print(f"seed {seed}: {kind} {losses[seed]:.6g} on validation data", flush=True)
    chosen = min(losses, key=losses.__getitem__)
    candidate, _ = _candidate(folder, chosen, go_on=True)
    folder.adopt(candidate, {"chosen": chosen, "by": f"least {kind} on validation data", "seeds": losses})
    print_table({"chosen": f"seed {chosen} of {len(losses)}, by the least {kind} on validation data"})
    return load_model(folder.path), folder.load_metrics()


def _candidate(folder: RunFolder, seed: int, *, go_on: bool) -> tuple[RunFolder, int]:
    """The training with this seed among several, and how many epochs of it are complete; a new one unless ``go_on``."""
    from somvae_ext.training import RunFolder

    path = folder.path / _CANDIDATES / str(seed)
    if go_on and (path / RunFolder.CHECKPOINT).is_file():
        run = RunFolder.open(path)
        return run, run.load_checkpoint()["epoch"]
    return RunFolder(path, overwrite=True), 0


def _first_candidate(run: Path, best_of: int) -> RunFolder:
    """The training with the lowest seed of an interrupted choice among several."""
    from somvae_ext.training import RunFolder

    if (run / RunFolder.CONFIG).is_file():
        raise ValueError(f"--best-of has nothing to go on with: {run} holds a complete run")
    seeds = [int(path.name) for path in (run / _CANDIDATES).glob("*") if path.name.isdigit()]
    if not seeds:
        raise FileNotFoundError(f"--resume with --best-of needs trainings in {run / _CANDIDATES}, but there are none")
    if len(seeds) > best_of:
        raise ValueError(f"--best-of must be at least the {len(seeds)} trainings in {run / _CANDIDATES}, got {best_of}")
    return RunFolder.open(run / _CANDIDATES / str(min(seeds)))


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
