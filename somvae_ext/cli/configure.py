"""Turns the options of ``fit`` into data, the config of a deep model and a recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from somvae_ext.cli.data_names import report_shadowed_file
from somvae_ext.cli.fit_options import explicit_options
from somvae_ext.cli.model_choice import DEFAULT
from somvae_ext.cli.model_options import model_options, option_name
from somvae_ext.cli.resuming import check_resume_options
from somvae_ext.cli.run_data import clamp_splits, load_run_data
from somvae_ext.cli.seeds import check_seed
from somvae_ext.cli.table_options import OPTIONS as TABLE_OPTIONS
from somvae_ext.cli.table_options import table_format
from somvae_ext.config_checks import check_number
from somvae_ext.models import MODELS, SOMVAE, VQVAE, Model, SOMVAEConfig, VQVAEConfig
from somvae_ext.models.gaussian_autoencoder import GaussianAutoencoder
from somvae_ext.processes import torchrun_world_size
from somvae_ext.recipes import (
    AUGMENTED_BY_DEFAULT,
    DECAY_FACTOR,
    PRESETS,
    RECIPES,
    SIZES_FOR_CONV,
    Preset,
    add_schedule,
    make_somvae_config,
    recipe_for_own_data,
)

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.data.record import AnySplits
    from somvae_ext.store import ResultFolder
    from somvae_ext.training import RunRecord, TrainingConfig

_TRAINING_OPTIONS = ("epochs", "batch_size", "learning_rate")
# Options that a resumed training may change; all others stay those of the run.
_RESUME_OPTIONS = {
    "resume",
    "epochs",
    "threads",
    "device",
    "quiet",
    "data_root",
    "download",
    "config",
    "best_of",
    "from_epoch",
}


class Setting(NamedTuple):
    """What to train and how, and the data to train on."""

    record: RunRecord
    splits: AnySplits


def configure(options: Namespace) -> Setting:
    """Builds the setting: options take precedence over the preset, and the preset over the recipe for the data."""
    from somvae_ext.data import NAMES, load
    from somvae_ext.data.catalog import SERIES
    from somvae_ext.data.record import DataRecord
    from somvae_ext.training import RunRecord, TrainingConfig
    from somvae_ext.training.augmentation import AUGMENTATION_BOUNDS

    name = options.data
    if name is None:
        raise ValueError(
            f"DATA is missing; name a file, a folder of series or one of {', '.join(NAMES)}: somvae fit digits"
        )
    is_named = name in NAMES
    _check_options(options, name, is_named)
    report_shadowed_file(name)
    model = MODELS[options.model or DEFAULT]
    explicit = _explicit_fields(options, model)
    preset = _select_preset(options, model, explicit, is_series=name in SERIES)
    data = {
        # Absolute, so that the run can be evaluated from anywhere.
        "name": name if is_named or not Path(name).exists() else str(Path(name).resolve()),
        "root": str(Path(options.data_root or "data").resolve()),
        "seed": options.split_seed or 0,
        "recipe": options.get("recipe") or "published",
        "num_series": options.get("num_series") or _recipe_for_name(name, preset).get("num_series"),
        "kind": options.get("kind"),
        "table": table_format(options),
        "missing": options.missing or "error",
        "split": options.split or ("folds" if options.fold is not None else "holdout"),
        "fold": options.fold or 0,
        "image_size": options.image_size,
    }
    if is_named and name not in SERIES and preset is not None:
        if options.split is None and options.fold is None:
            data["split"] = preset.split
        if options.image_size is None:
            data["image_size"] = preset.image_size
    if data["image_size"] is None and explicit.get("network") == "conv" and issubclass(model, GaussianAutoencoder):
        data["image_size"] = SIZES_FOR_CONV.get(name)
    others = {key: data[key] for key in data if key != "name"}
    if model.unit_interval and options.scaling not in (None, "minmax"):
        raise ValueError(
            f"--scaling must be minmax for --model {model.name}, which takes values from 0 to 1, got {options.scaling}"
        )
    splits = clamp_splits(model, load(name, **others, scaling=options.scaling, download=options.download))

    if model in (SOMVAE, VQVAE):
        explicit = _output_for(splits, explicit) | explicit
    # Only now is it known whether the user's own data are series.
    preset = _select_preset(options, model, explicit, is_series=splits.kind == "series")
    share = -(-len(splits.train) // torchrun_world_size())  # the samples, or series, of each process in an epoch
    recipe = recipe_for_own_data(splits.kind, share, options.batch_size) | _recipe_for_name(name, preset)
    if model is SOMVAE:
        config = _somvae_config(name, is_named, preset, explicit, splits)
    else:
        config = _static_config(model, name, preset, explicit, splits)
    if getattr(config, "reconstruction", None) == "bce":
        _check_range(splits)
    bounds = {name: recipe.get(name, 0.0) if options[name] is None else options[name] for name in AUGMENTATION_BOUNDS}
    is_augmented = any(bound > 0 for bound in bounds.values())
    training = TrainingConfig(
        **{name: recipe[name] if options[name] is None else options[name] for name in _TRAINING_OPTIONS},
        **bounds,
        augmented_target=options.augmented_target or (is_augmented and recipe.get("augmented_target", False)),
        decay_factor=DECAY_FACTOR if model is SOMVAE else 1.0,
        max_grad_norm=options.max_grad_norm or 0.0,
        revive=bool(options.get("revive")),
        seed=options.seed or 0,
    )
    _check_augmentation(training, name, splits)
    if isinstance(config, SOMVAEConfig):
        config = add_schedule(
            config,
            preset,
            kind=splits.kind,
            epochs=training.epochs,
            steps_per_epoch=-(-share // training.batch_size),
            explicit=explicit,
        )
    _check_warm_up(config, training)
    _check_relabeling(config, training)
    if options.best_of is not None and splits.validation is None:
        raise ValueError(
            "--best-of chooses by the validation loss, but no validation data are held back; give --split holdout"
        )
    threads, accelerator = options.threads or recipe["threads"], options.device or "auto"
    return Setting(
        RunRecord(model, config, training, DataRecord.from_splits(data, splits), threads, accelerator), splits
    )


def configure_resume(options: Namespace, folder: ResultFolder, *, may_be_complete: bool = False) -> Setting:
    """Builds the setting that resumes an earlier run; one that is complete is refused unless ``may_be_complete``."""
    from somvae_ext.training import RunRecord

    check_resume_options(options, _RESUME_OPTIONS, "run")
    _check_best_of(options)
    record = RunRecord.from_folder(folder)
    training = record.training
    if options.epochs is not None:
        training = dataclasses.replace(training, epochs=options.epochs)
    done = max(folder.epochs, default=0)
    # A run that was killed after its last epoch still has to be evaluated.
    is_complete = training.epochs < done or (training.epochs == done and "test" in folder.evaluations)
    if not may_be_complete and is_complete:
        raise ValueError(f"{folder.path} has completed its {done} epochs; for more of them, give a larger --epochs")
    _check_warm_up(record.config, training)
    _check_relabeling(record.config, training)
    record = dataclasses.replace(
        record,
        training=training,
        threads=options.threads or record.threads,
        accelerator=options.device or record.accelerator,
    )
    return Setting(*load_run_data(folder, record, options))


def _check_options(options: Namespace, name: str, is_named: bool) -> None:
    from somvae_ext.data.catalog import INTERPOLATED
    from somvae_ext.training.augmentation import AUGMENTATION_BOUNDS

    if options.threads is not None and options.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {options.threads}")
    for seed in ("seed", "split_seed"):
        if options[seed] is not None:
            check_seed(option_name(seed), options[seed])
    for option, names in (("recipe", INTERPOLATED), ("num_series", (*INTERPOLATED, "lorenz"))):
        if options.get(option) is not None and name not in names:
            raise ValueError(f"{option_name(option)} is for {', '.join(names)}, got {name}")
    for option in ("kind", "missing", *TABLE_OPTIONS):
        if options.get(option) is not None and is_named:
            raise ValueError(f"{option_name(option)} is for one's own files, not for {name}")
    for bound, bounds in AUGMENTATION_BOUNDS.items():
        if options[bound] is not None:
            check_number(None, option_name(bound), options[bound], bounds)
    num_series = options.get("num_series")
    if num_series is not None and num_series < 1:
        raise ValueError(f"--num-series must be at least 1, got {num_series}")
    _check_best_of(options)
    if options.fold is not None and options.split not in (None, "folds"):
        raise ValueError(f"--fold is for --split folds, got --split {options.split}")


def _check_best_of(options: Namespace) -> None:
    if options.best_of is not None and options.best_of < 2:
        raise ValueError(f"--best-of must be at least 2, got {options.best_of}")


def _check_augmentation(training: TrainingConfig, name: str, splits: AnySplits) -> None:
    bound = training.augmentation.first_nonzero_bound
    if bound is not None and len(splits.sample_shape) != 3:
        part = "frames" if splits.kind == "series" else "samples"
        raise ValueError(
            f"{option_name(bound)} must be 0 for {name}, whose {part} are not images [C, H, W], got "
            f"{getattr(training, bound)} and {part} of shape {list(splits.sample_shape)}"
        )


def _check_warm_up(config: Any, training: TrainingConfig) -> None:
    warm_up = getattr(config, "warm_up_epochs", 0)
    if warm_up >= training.epochs:
        raise ValueError(
            f"--warm-up-epochs must be below --epochs, because the codebook learns after the warm-up, got {warm_up} of "
            f"{training.epochs} epochs"
        )


def _check_relabeling(config: Any, training: TrainingConfig) -> None:
    after = getattr(config, "relabel_after", 0)
    if after > training.epochs:
        raise ValueError(f"--relabel-after must be at most --epochs, got {after} of {training.epochs} epochs")


def _select_preset(
    options: Namespace, model: type[Model], explicit: dict[str, Any], *, is_series: bool
) -> Preset | None:
    """Returns the preset that was asked for; None if there is none.

    The default of a SOM-VAE is ``ordered`` if codes are moving averages, and for series unless codes learn by gradients
    or the network is ``identity``, as in a GB-SOM. Otherwise the default for MNIST and Fashion-MNIST is ``augmented``,
    unless the network is ``identity``.
    """
    presets = PRESETS[model.name]
    name = options.preset
    if name is None and model is SOMVAE:
        uses_gradient = explicit.get("codebook_update") == "gradient" or explicit.get("network") == "identity"
        if explicit.get("codebook_update") == "ema" or (is_series and not uses_gradient):
            name = "ordered"
        elif options.data in AUGMENTED_BY_DEFAULT and explicit.get("network") != "identity":
            name = "augmented"
    if name is not None and name not in presets:
        raise ValueError(f"--preset must be {' or '.join(presets)} for --model {model.name}, got {name!r}")
    return None if name is None else presets[name]


def _recipe_for_name(name: str, preset: Preset | None) -> dict[str, Any]:
    """Merges the recipe for named data with the preset, which takes precedence."""
    recipe = RECIPES.get(name, {})
    return recipe if preset is None else recipe | preset.training_on.get(name, {}) | preset.training


def _explicit_fields(options: Namespace, model: type[Model]) -> dict[str, Any]:
    """Returns the fields of the model's config that were given as options."""
    known = model_options(model.name)
    return {name: value for name, value in explicit_options(options).items() if name in known}


def _output_for(splits: AnySplits, explicit: dict[str, Any]) -> dict[str, Any]:
    """Returns the field of the config that lets the decoder give values outside [0, 1], if the data have some.

    Data scaled to the range of the training data keep the sigmoid, although held-out values may lie a little outside.
    """
    from somvae_ext.data import Samples

    if splits.scaling.kind == "minmax" or explicit.get("reconstruction") == "bce":  # cross entropy needs [0, 1]
        return {}
    parts = [part.x for part in splits if isinstance(part, Samples)]  # series made of images are in [0, 1]
    return {"output": "linear"} if any(((x < 0) | (x > 1)).any() for x in parts) else {}


def _static_config(
    model: type[Model], name: str, preset: Preset | None, explicit: dict[str, Any], splits: AnySplits
) -> Any:
    """Builds the config of a model of single samples."""
    if splits.kind == "series":
        raise ValueError(f"--model {model.name} is for single samples, and {name} holds series; use --model somvae")
    changes: dict[str, Any] = {"input_shape": splits.sample_shape}
    if "label" in model.batch_fields:
        changes["num_classes"] = _num_classes(model, name, splits)
    config: Any = dataclasses.replace(model.config_type() if preset is None else preset.config(), **changes | explicit)
    if isinstance(config, VQVAEConfig):
        if preset is None and "init" not in explicit and _num_samples(splits) >= config.num_codes:
            config = dataclasses.replace(config, init="kmeans")
        _check_start(config, config.num_codes, splits, "--num-codes")
    return config


def _num_classes(model: type[Model], name: str, splits: AnySplits) -> int:
    """Returns the number of classes, after checking that labels count them from 0."""
    labels = [part.label for part in splits if part.label is not None]
    if not labels:
        raise ValueError(f"--model {model.name} needs the class of each sample, but {name} has none")
    known = labels[0].unique()  # of the training data
    if not torch.equal(known, torch.arange(len(known))):
        raise ValueError(
            f"{name}: labels of the training data must count the classes from 0 on, without a gap, for --model "
            f"{model.name}, got {len(known)} classes from {int(known[0])} to {int(known[-1])}"
        )
    for label in labels[1:]:
        if label.max() >= len(known) or label.min() < 0:
            raise ValueError(f"{name}: all classes must occur in the training data, got others in held-out data")
    return len(known)


def _somvae_config(
    name: str, is_named: bool, preset: Preset | None, explicit: dict[str, Any], splits: AnySplits
) -> SOMVAEConfig:
    if splits.kind == "static":
        hint = (
            f"; try somvae fit {name}-series"
            if is_named
            else "; series are a folder of files, or an array with --kind series"
        )
        if explicit.get("gamma") or explicit.get("tau"):
            raise ValueError(f"--gamma and --tau must be 0 for {name}, whose samples have no order in time{hint}")
        if explicit.get("prediction"):
            raise ValueError(f"--prediction must be 0 for {name}, whose samples have no order in time{hint}")
        if explicit.get("window", 1) > 1:
            raise ValueError(f"--window must be 1 for {name}, whose samples have no order in time{hint}")
        if explicit.get("transitions") == "local":
            raise ValueError(f"--transitions local is for series, and {name} has no order in time{hint}")
    uses_ema = preset is not None and preset.config().codebook_update == "ema"
    if uses_ema and explicit.get("codebook_update") == "gradient" and preset is not PRESETS[SOMVAE.name]["ordered"]:
        raise ValueError(
            "--codebook-update must be ema for this preset, whose codes are moving averages, got gradient; take "
            "--preset augmented"
        )
    _check_codebook_options(explicit, explicit.get("codebook_update", "ema" if uses_ema else "gradient"))
    count = _num_samples(splits)
    config = make_somvae_config(
        preset, data=name, kind=splits.kind, sample_shape=splits.sample_shape, num_samples=count, explicit=explicit
    )
    _check_start(config, config.grid.num_nodes, splits, "--rows and --cols")
    return config


def _check_codebook_options(explicit: dict[str, Any], update: str) -> None:
    gradient_options, ema_options = (
        ("border", "neighbors_only", "soft_som"),
        ("decay", "sigma_initial", "sigma_final", "sigma_steps"),
    )
    unused, use = (gradient_options, "gradient") if update == "ema" else (ema_options, "ema")
    for name in unused:
        if name in explicit:
            raise ValueError(
                f"{option_name(name)} is for --codebook-update {use}, and --codebook-update {update} has no use for it"
            )


def _check_start(config: Any, codes: int, splits: AnySplits, sizes: str) -> None:
    count = _num_samples(splits)
    if config.init == "kmeans" and count < codes:
        raise ValueError(
            f"--init kmeans needs a training {'frame' if splits.kind == 'series' else 'row'} for each of the {codes} "
            f"codes, got {count}; choose smaller {sizes}, or --init normal"
        )


def _check_range(splits: AnySplits) -> None:
    from somvae_ext.data import Samples
    from somvae_ext.models.reconstruction import check_cross_entropy_range

    for name, part in (("training", splits.train), ("validation", splits.validation), ("test", splits.test)):
        if isinstance(part, Samples):  # series made of images are in range by construction
            check_cross_entropy_range(part.x, f"--reconstruction bce: {name} data, scaled by the training data,")


def _num_samples(splits: AnySplits) -> int:
    """Counts the training samples, or the real frames of the training series."""
    train = splits.train
    if splits.kind == "static":
        return len(train)
    if train.mask is not None:
        return int(train.mask.sum())
    return len(train) * len(train[0]["x"])
