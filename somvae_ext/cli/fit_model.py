"""``somvae fit`` for a deep model: train, evaluate and draw, in one process or in several under ``torchrun``."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from somvae_ext.cli.configure import Setting, configure, configure_resume
from somvae_ext.cli.devices import check_device
from somvae_ext.cli.evaluate_model import print_evaluation
from somvae_ext.cli.printing import print_description, print_table, print_warning
from somvae_ext.cli.resuming import explain_how_to_resume, resume_command
from somvae_ext.models import SOMVAE, MoEVAE
from somvae_ext.report.model_pictures import save_expert_samples, save_pictures

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.processes import Processes
    from somvae_ext.store import ResultFolder

_CANDIDATES = "seeds"  # subfolder of the run for the trainings of --best-of


def run(options: Namespace) -> None:
    # All imports first: a missing extra should be known before the training, not after it.
    import torch

    import somvae_ext.plotting  # noqa: F401
    from somvae_ext.processes import torchrun_processes

    # Every check comes before the folder is touched.
    check_device(options.device, options.model or SOMVAE.name)
    processes = torchrun_processes("cpu" if options.device == "cpu" or not torch.cuda.is_available() else "cuda")
    with processes.fail_together():
        setting, folder = _open_setting(options)
    if options.resume is None and processes.is_first:
        print_description(setting.splits.description, vars(options))
    with processes.enter_on_first(folder.lock()):
        start = time.perf_counter()
        if options.best_of is None:
            model, history = _train(setting, folder, options, processes, resume=bool(folder.epochs))
        else:
            model, history = _train_best(setting, folder, options, processes)
        if processes.is_first:
            evaluation = _report(setting, folder, model, history, time.perf_counter() - start)
            _warn_of_collapse(model, evaluation, options)


def _open_setting(options: Namespace) -> tuple[Setting, ResultFolder]:
    """Returns what to train, and the folder for it, which is not touched yet."""
    from somvae_ext.store import ResultFolder

    if options.from_epoch is not None and (options.resume is None or options.best_of is not None):
        raise ValueError("--from-epoch is for --resume of a single training, without --best-of")
    if options.resume is None:
        setting = configure(options)
        path = options.out or _default_folder(setting)
        return setting, ResultFolder.create(path, "model", overwrite=options.overwrite)
    if options.best_of is not None:
        first = _first_candidate(Path(options.resume), options.best_of)
        setting = configure_resume(options, first, may_be_complete=True)
        return setting, ResultFolder.create(options.resume, "model", overwrite=True)
    folder = options.resumed or ResultFolder.open(options.resume, "model")
    if options.from_epoch is not None:
        folder.rewind_to(options.from_epoch)
    return configure_resume(options, folder), folder


def _report(
    setting: Setting, folder: ResultFolder, model: Any, history: list[dict[str, Any]], seconds: float
) -> dict[str, float]:
    """Evaluates the model on the test split, draws its pictures, and prints the results."""
    from somvae_ext.training import evaluate
    from somvae_ext.training.model_nodes import count_node_hits, part_encoder

    splits, encode_part = setting.splits, part_encoder(model, setting.splits)
    evaluation = evaluate(model, splits.test, train=splits.train)
    folder.save_evaluation("test", evaluation)
    nodes = count_node_hits(model, encode_part)
    if nodes is not None:
        nodes.save(folder)
    pictures = save_pictures(model, splits, history, folder, encode_part)
    print_evaluation(model, evaluation, "test", splits.kind)
    print_table({"training": f"{seconds:.1f} s", "pictures": ", ".join(str(picture) for picture in pictures)})
    return evaluation


def _warn_of_collapse(model: Any, evaluation: dict[str, float], options: Namespace) -> None:
    """Warns if nearly all test samples are in a few nodes, codes or categories."""
    from somvae_ext.evaluation import has_collapsed

    if "perplexity" not in evaluation:
        return
    assigned = evaluation["samples"] * getattr(model, "codes_per_sample", 1)
    if has_collapsed(evaluation["perplexity"], model.num_clusters, assigned):
        remedy = "--revive" if hasattr(model, "revive") else "another --seed"
        print_warning(
            f"the model has collapsed: test samples are spread as over {evaluation['perplexity']:.1f} of "
            f"{model.num_clusters} clusters (perplexity); try more --epochs, {remedy} or a smaller --learning-rate",
            vars(options),
        )


def _train(
    setting: Setting, folder: ResultFolder, options: Namespace, processes: Processes, *, resume: bool
) -> tuple[Any, list[dict[str, Any]]]:
    """Trains the model; returns it with the records of its epochs."""
    import torch

    from somvae_ext.training import clustering_metrics, fit
    from somvae_ext.training.trainable import ClusteringModel

    record, splits = setting
    torch.set_num_threads(record.threads)
    torch.manual_seed(record.training.seed)
    model: Any = record.model(record.config)
    processes.call_on_first(lambda: folder.save_config(record.to_config()))

    def measure() -> dict[str, float]:
        return clustering_metrics(model, splits.train if splits.validation is None else splits.validation)

    def keep_experts(epoch: int) -> None:
        save_expert_samples(model, folder, epoch)

    with explain_how_to_resume(folder):
        history = fit(
            model,
            splits.train,
            record.training,
            validation=splits.validation,
            metrics=measure if isinstance(model, ClusteringModel) else None,
            after_epoch=keep_experts if isinstance(model, MoEVAE) else None,
            run_folder=folder,
            resume=resume,
            accelerator=record.accelerator,
            show_progress=not options.quiet,
        )
    if options.overwrite:
        processes.call_on_first(lambda: _remove_candidates(folder))
    return model, history


def _train_best(
    setting: Setting, folder: ResultFolder, options: Namespace, processes: Processes
) -> tuple[Any, list[dict[str, Any]]]:
    """Trains with several seeds and keeps the training with the smallest validation loss; labels are not used.

    Trainings that an interrupted command has completed are not repeated.
    """
    from somvae_ext.models.saved_model import load_model
    from somvae_ext.store import METRICS

    if options.resume is None:
        processes.call_on_first(lambda: _remove_candidates(folder))
    losses: dict[int, float] = {}
    first = setting.record.training.seed
    for seed in range(first, first + options.best_of):
        history = _candidate_history(setting, folder, options, processes, seed)
        kind, losses[seed] = _choice_loss(history[-1]["validation"])
        if processes.is_first:
            print(f"seed {seed}: {kind} {losses[seed]:.6g} on validation data", flush=True)
    chosen = min(losses, key=losses.__getitem__)

    def copy_chosen() -> None:
        candidate, _ = _candidate(folder, chosen, resume=True)
        choice = {"chosen": chosen, "by": f"least {kind} on validation data", "seeds": losses}
        folder.copy_checkpoint_from(candidate, choice)
        print_table({"chosen": f"seed {chosen} of {len(losses)}, by the least {kind} on validation data"})

    processes.call_on_first(copy_chosen)
    if not processes.is_first:
        return None, []
    return load_model(folder), folder.load_log(METRICS)


def _candidate_history(
    setting: Setting, folder: ResultFolder, options: Namespace, processes: Processes, seed: int
) -> list[dict[str, Any]]:
    """Returns the epoch records of the training with this seed, after completing it if necessary."""
    from somvae_ext.store import METRICS

    training = dataclasses.replace(setting.record.training, seed=seed)
    resume = options.resume is not None
    epochs_done = processes.call_on_first(lambda: _candidate(folder, seed, resume=resume)[1])
    candidate, _ = _candidate(folder, seed, resume=resume and epochs_done > 0)
    if epochs_done > training.epochs:
        raise ValueError(f"--epochs must be at least the {epochs_done} that {candidate.path} has completed")
    if epochs_done == training.epochs:
        return candidate.load_log(METRICS)
    record = dataclasses.replace(setting.record, training=training)
    try:
        _, history = _train(Setting(record, setting.splits), candidate, options, processes, resume=epochs_done > 0)
    except KeyboardInterrupt as interrupt:
        raise type(interrupt)(
            f"interrupted; the trainings so far are runs of their own in {candidate.path.parent}; "
            f"{resume_command(folder)} --best-of {options.best_of} goes on"
        ) from None
    return history


def _candidate(folder: ResultFolder, seed: int, *, resume: bool) -> tuple[ResultFolder, int]:
    """Returns the folder of the training with this seed, new unless ``resume``, and its number of complete epochs."""
    from somvae_ext.store import ResultFolder

    path = folder.path / _CANDIDATES / str(seed)
    if resume and path.is_dir():
        with contextlib.suppress(FileNotFoundError):
            run = ResultFolder.open(path, "model")
            return run, run.last_epoch
    return ResultFolder.create(path, "model", overwrite=True), 0


def _first_candidate(run: Path, best_of: int) -> ResultFolder:
    """Opens the training with the lowest seed of an interrupted ``--best-of``."""
    from somvae_ext.store import ResultFolder

    with contextlib.suppress(FileNotFoundError):
        if ResultFolder.open(run).epochs:
            raise ValueError(f"--best-of has nothing to resume: {run} holds a complete run")
    seeds = [int(path.name) for path in (run / _CANDIDATES).glob("*") if path.name.isdigit()]
    if not seeds:
        raise FileNotFoundError(f"--resume with --best-of needs trainings in {run / _CANDIDATES}, but there are none")
    if len(seeds) > best_of:
        raise ValueError(f"--best-of must be at least the {len(seeds)} trainings in {run / _CANDIDATES}, got {best_of}")
    return ResultFolder.open(run / _CANDIDATES / str(min(seeds)), "model")


def _choice_loss(losses: dict[str, float]) -> tuple[str, float]:
    """Returns the name and the value of the loss by which seeds are compared.

    For a SOM-VAE it is the reconstruction loss of the codes, which measures how much a node says about its samples. The
    terms that pull encodings and codes together would favor a collapsed map: they are smallest if all are in one place.
    """
    if "reconstruction_q" in losses:
        return "reconstruction loss of the codes", losses["reconstruction_q"]
    return "loss", losses["total"]


def _remove_candidates(folder: ResultFolder) -> None:
    """Removes the trainings among which an earlier run was chosen."""
    from somvae_ext.store import is_result_folder

    candidates = folder.path / _CANDIDATES
    if candidates.is_dir() and all(is_result_folder(path) for path in candidates.iterdir()):
        shutil.rmtree(candidates)


def _default_folder(setting: Setting) -> Path:
    """``runs/DATA``, or ``runs/MODEL-DATA`` for models other than SOM-VAE."""
    name, model = Path(setting.record.data.name).stem, setting.record.model
    return Path("runs") / (name if model is SOMVAE else f"{model.name}-{name}")
