"""The command line: its commands, their options and their help."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from somvae_ext._version import __version__
from somvae_ext.cli.experiment import DEFAULT_FOLDER, SUMMARIES
from somvae_ext.cli.fit_options import add_fit_options, explain_foreign_option, quote_config_text
from somvae_ext.cli.former_options import refuse_former_options
from somvae_ext.cli.model_choice import DEFAULT, MAP, TRAINABLE, ModelChoice, choose_model, last_value
from somvae_ext.cli.parse_errors import parse_error_sentence
from somvae_ext.cli.table_options import add_written_options
from somvae_ext.cli.tune import add_tune_options, explain_size_option
from somvae_ext.report.map_pictures import KINDS

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

_ROWS = "python -c \"import numpy; numpy.save('rows.npy', numpy.random.rand(500, 3))\""
_EXIT_CODES = """exit codes:
  0    success
  1    bench compare found something slower
  2    a mistake that you can correct; one sentence on stderr says what it is
  130  ended by Ctrl-C; 143 by SIGTERM; 129 by SIGHUP"""


class _Command(NamedTuple):
    """A command: its line in the main help, and its own help."""

    summary: str
    description: str
    usage: str
    examples: Sequence[str]
    add_options: Callable[[ArgumentParser], None]


def parse(argv: Sequence[str]) -> Namespace:
    """Parses a command line into ``command`` and, under its name, the options of the command.

    The options of ``fit`` are those of one model, see :func:`~somvae_ext.cli.model_choice.choose_model`, and
    ``resumed``, the folder of ``--resume``, which is opened only once.

    Raises:
        ValueError: the command line is wrong; the message says how.
    """
    from jsonargparse import ArgumentParser

    refuse_former_options(argv)
    name, arguments = (argv[0], list(argv[1:])) if argv else ("", [])
    choice = ModelChoice(DEFAULT)
    if name == "fit":
        choice = choose_model(arguments)
        arguments = _config_first(arguments)
    commands = _commands(choice.model)
    parser = ArgumentParser(
        prog="somvae",
        description="Trains self-organizing maps, SOM-VAEs and their relatives, and works with the results.",
        epilog=f"{_examples(['somvae fit digits --epochs 3', 'somvae fit --help'])}\n\n{_EXIT_CODES}",
        formatter_class=_help_formatter(),
        version=__version__,
        allow_abbrev=False,
        exit_on_error=False,
    )
    subcommands = parser.add_subcommands(dest="command")
    parsers = {}
    for command_name, command in commands.items():
        parsers[command_name] = _parser_type()(
            description=command.description,
            usage=command.usage,
            epilog=_examples(command.examples),
            formatter_class=_help_formatter(),
            allow_abbrev=False,
            exit_on_error=False,
            print_config=None,  # fit has a plainer one
        )
        if command_name == name:
            command.add_options(parsers[command_name])
        subcommands.add_subcommand(command_name, parsers[command_name], help=command.summary)

    def explain_unknown_option(option: str) -> str | None:
        if name == "tune":
            return explain_size_option(option)
        return explain_foreign_option(option, choice.model) if name == "fit" else None

    try:
        options = parser.parse_args([name, *arguments] if argv else [])
    except argparse.ArgumentError as error:
        model = choice.model if name == "fit" else None
        sentence = parse_error_sentence(str(error), parsers.get(name), sorted(commands), explain_unknown_option, model)
        raise ValueError(sentence) from None
    except (RuntimeError, AttributeError, KeyError, TypeError):  # jsonargparse, for values that it did not expect
        if name != "fit" or last_value(arguments, "--config") is None:
            raise
        raise ValueError("the --config file must hold a value or a list of values for each option") from None
    if name == "fit":
        options["fit"]["resumed"] = choice.resumed
    if name == "bench":
        options["bench"]["arguments"] = arguments
    return options


def _config_first(arguments: list[str]) -> list[str]:
    """Moves ``--config`` before all other arguments, which then override the file."""
    config: list[str] = []
    others: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--config":
            config += [argument, *(value for value in [next(remaining, None)] if value is not None)]
        else:
            (config if argument.startswith("--config=") else others).append(argument)
    return config + others


def _commands(model: str) -> dict[str, _Command]:
    """Returns all commands, with ``fit`` for one model."""
    return {
        "fit": _Command(
            summary="train a map, a SOM-VAE or one of its relatives",
            description=_fit_description(model),
            usage="somvae fit DATA [--model MODEL] [options]\n       somvae fit --resume RUN [options]",
            examples=_fit_examples(model),
            add_options=lambda parser: add_fit_options(parser, model),
        ),
        "tune": _Command(
            summary="find out how large a map should be",
            description="Trains maps of several sizes on parts of the rows, and measures each on the rows held out: "
            "the quantization error, the topographic error, and both in one, the combined error. Chooses the smallest "
            "map whose combined error is within a standard error of the least. Writes a table and a picture.",
            usage="somvae tune DATA [--sizes SIZE ...] [options]",
            examples=["somvae tune digits", f"{_ROWS}\n  somvae tune rows.npy --sizes 3x3 5x5 8x8 auto --folds 5"],
            add_options=add_tune_options,
        ),
        "evaluate": _Command(
            summary="evaluate a trained map or model",
            description="Evaluates a model on held-out data by its losses, its clusters and the order of its map, or a "
            "map on its training data by its errors and, if there are labels, by its classes.",
            usage="somvae evaluate RUN [options]",
            examples=[
                "somvae fit digits --epochs 3 --out runs/some && somvae evaluate runs/some --split validation",
            ],
            add_options=_add_evaluate_options,
        ),
        "predict": _Command(
            summary="assign your own data to nodes or clusters",
            description="Writes the node of each sample of your own data with its row, column, distance, class and "
            "cluster, or the sample's codes, category or latent means, as CSV or Parquet. Tables and .npy files of "
            "rows may be larger than memory.",
            usage="somvae predict RUN DATA [options]",
            examples=[
                f"{_ROWS}\n  somvae fit rows.npy --model som && somvae predict runs/som-rows rows.npy -o nodes.csv"
            ],
            add_options=_add_predict_options,
        ),
        "export": _Command(
            summary="write codes or scaling as a table",
            description="Writes the codes of a map or model as CSV or Parquet, in the units of the data and under the "
            "names of the features, with what is known about their nodes: hits, class, cluster. With --scaling, writes "
            "what is subtracted from each feature and what the difference is divided by before distances are computed.",
            usage="somvae export RUN --codes [options]",
            examples=[
                f"{_ROWS}\n  somvae fit rows.npy --model som --out runs/codes && somvae export runs/codes --codes -o "
                "codes.csv"
            ],
            add_options=_add_export_options,
        ),
        "sample": _Command(
            summary="draw samples from a model's prior",
            description="Draws samples from the prior of a model, or of two models side by side. A model with classes, "
            "categories or experts gets a row for each of them, all from the same latent points.",
            usage="somvae sample RUN [RUN2] [options]",
            examples=["somvae fit digits --model vae --epochs 3 && somvae sample runs/vae-digits -n 16"],
            add_options=_add_sample_options,
        ),
        "cluster": _Command(
            summary="group the nodes of a map, or the codes of a model",
            description="Groups the nodes of a map by their codes, or the codes of a SOM-VAE or of a VQ-VAE with dense "
            "networks in latent space. By default it compares 2 to 20 clusters by Ward's method, or by average linkage "
            "if the metric of a map is not Euclidean. The clusters are saved in RUN, in place of earlier ones, and, if "
            "there is a map, drawn as clusters.png.",
            usage="somvae cluster RUN [options]",
            examples=[
                f"{_ROWS}\n  somvae fit rows.npy --model som --out runs/some && somvae cluster runs/some -o nodes.csv",
                "somvae cluster runs/some -n 5 --clusterer KMeans --set n_init=10",
            ],
            add_options=_add_cluster_options,
        ),
        "plot": _Command(
            summary="draw a trained map or model",
            description="Draws a map (hits, U-matrix, component planes, labels, colors, the clusters of 'somvae "
            "cluster', codes as images, training curves), or draws all pictures of a model again.",
            usage="somvae plot RUN [options]",
            examples=[f"{_ROWS}\n  somvae fit rows.npy --model som --out runs/map && somvae plot runs/map --kind rgb"],
            add_options=_add_plot_options,
        ),
        "report": _Command(
            summary="write a page with an explorer of a result",
            description="Writes one HTML file that needs no network: config, data, metrics with their definitions, all "
            "pictures, and an explorer of the map or the codes, which shows the nearest samples, classes, features, "
            "neighbors and transitions of each node. Two results are shown side by side.",
            usage="somvae report RUN [RUN2] [options]",
            examples=[f"{_ROWS}\n  somvae fit rows.npy --model som --out runs/map && somvae report runs/map"],
            add_options=_add_report_options,
        ),
        "experiment": _Command(
            summary="reproduce a table or figure of the literature",
            description="Reproduces a table or figure of the literature, such as those of the SOM-VAE paper on MNIST "
            "and Fashion-MNIST, with as many trainings at once as there are cores, and writes JSON, pictures and a "
            "page. After an interruption, the same command continues.\n\n"
            + "\n".join(f"  {name:<10} {meaning}" for name, meaning in SUMMARIES.items()),
            usage="somvae experiment NAME [options]",
            examples=["somvae experiment table1 --quick --download"],
            add_options=_add_experiment_options,
        ),
        "bench": _Command(
            summary="time the ops, maps and models beside other libraries",
            description="Times the ops, maps and models of this project beside those of other libraries.",
            usage="somvae bench [SUITE] [options]\n       somvae bench compare A.json B.json",
            examples=[
                "somvae bench bmu -N 2000 -K 256 -D 16 --out runs/before",
                "somvae bench bmu -N 2000 -K 256 -D 16 --out runs/after\n"
                "  somvae bench compare runs/before/bmu.json runs/after/bmu.json || test $? = 1",
            ],
            add_options=_add_bench_options,
        ),
        "info": _Command(
            summary="show what a folder holds, or what this installation can do",
            description="Shows what a folder holds: model, data, scaling, epochs, figures and files; without a folder, "
            "what this installation can do.",
            usage="somvae info [RUN]",
            examples=["somvae info", "somvae fit digits --epochs 3 --out runs/few && somvae info runs/few"],
            add_options=_add_info_options,
        ),
    }


def _fit_description(model: str) -> str:
    if model == MAP:
        return (
            "Trains a self-organizing map on tables, images or frames of series, and writes it, its U-matrix and its "
            "hits to a folder."
        )
    what = "Trains a model, evaluates it on the test split, and draws what it learned."
    if model != DEFAULT:
        return f"{what} These are the options of --model {model}: {TRAINABLE[model]}."
    width = max(map(len, TRAINABLE))
    models = [f"  {name:<{width}}  {meaning}" for name, meaning in TRAINABLE.items()]
    others = (
        f"The options below are those of --model {DEFAULT}; 'somvae fit --model vae --help' lists those of another."
    )
    return "\n".join([what, "", "models:", *models, "", others])


def _fit_examples(model: str) -> list[str]:
    if model == MAP:
        return [f"{_ROWS}\n  somvae fit rows.npy --model som --rows 8 --cols 12 --topology hexagonal"]
    if model == DEFAULT:
        return [
            "somvae fit digits --epochs 3",
            "somvae fit digits --rows 4 --cols 4 --preset ordered --print_config > run.yaml\n"
            "  somvae fit --config run.yaml --out runs/ordered",
        ]
    return [f"somvae fit digits --model {model} --epochs 3"]


def _examples(examples: Sequence[str]) -> str:
    return "\n".join([f"example{'s' if len(examples) > 1 else ''}:", *(f"  {example}" for example in examples)])


def _add_evaluate_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=str, help="folder that fit wrote")
    parser.add_argument(
        "--split",
        choices=["train", "validation", "test"],
        help="split to evaluate on (default: test; for a map train, its only split)",
    )
    _add_data_location(parser.add_argument_group("data"))


def _add_predict_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=str, help="folder that fit wrote")
    parser.add_argument(
        "data",
        metavar="DATA",
        type=str,
        help="file, or folder of series, with the features of the training data; - for CSV on standard input",
    )
    _add_table_output(parser)
    parser.add_argument(
        "--with-input",
        action="store_true",
        help="also write the columns of DATA if it is a table; those of a text file are copied as text",
    )
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="also write the share of each class among the training samples of the node, or, for a model with "
        "categories, the probability of each category",
    )
    group = parser.add_argument_group("format of DATA, if it differs from the training data")

    def add(name: str, help: str, **options: Any) -> None:
        group.add_argument(name, help=help, **options)

    add_written_options(add, of_training_data=False)
    add("--id-column", "column with the names of the rows", type=str, metavar="COLUMN")


def _add_export_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=str, help="folder that fit wrote")
    parser.add_argument("--codes", action="store_true", help="codes in the units of the data, decoded if of a model")
    parser.add_argument("--latent-codes", action="store_true", help="codes of a model in latent space, not decoded")
    parser.add_argument("--scaling", action="store_true", help="scaling of the features, one per row")
    _add_table_output(parser)


def _add_table_output(parser: ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=str, help=".csv or .parquet file to write (default: standard output, as CSV)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace that file if it exists")


def _add_sample_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=str, help="folder that fit wrote, with a model of images")
    parser.add_argument("run2", metavar="RUN2", nargs="?", type=str, help="another one, to draw both side by side")
    parser.add_argument(
        "-n",
        "--number",
        type=int,
        help="samples per category (default: 8), or in all for a model without categories (default: 24)",
    )
    parser.add_argument("--category", type=int, help="draw only this class, category or expert")
    parser.add_argument("--seed", type=int, default=0, help="seed for the latent points (default: 0)")
    parser.add_argument(
        "-o",
        "--output",
        type=str,
        help="PNG file to write (default: samples.png, categories.png, category.png or side-by-side.png in RUN)",
    )


def _add_cluster_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=str, help="folder that fit wrote, with a map, somvae or vqvae")
    parser.add_argument(
        "-n",
        "--number",
        type=str,
        metavar="N",
        help="number of clusters, or auto, which compares 2 to 20 (default: auto; not for clusterers that find the "
        "number themselves)",
    )
    parser.add_argument(
        "--criterion",
        choices=["silhouette", "davies-bouldin"],
        help="how auto chooses: by the largest silhouette, or by the smallest Davies-Bouldin index (default: "
        "silhouette)",
    )
    parser.add_argument(
        "--clusterer",
        type=str,
        metavar="NAME",
        help="a class of sklearn.cluster or sklearn.mixture, such as KMeans, DBSCAN or GaussianMixture (default: "
        "AgglomerativeClustering)",
    )
    parser.add_argument(
        "--set",
        type=str,
        nargs="+",
        action="extend",
        metavar="NAME=VALUE",
        help="parameters of that class, such as linkage=average (random_state is 0 unless it is set)",
    )
    parser.add_argument(
        "-o", "--output", type=str, help="also write the cluster of each node to this .csv or .parquet file"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace that file")


def _add_plot_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=str, help="folder that fit wrote")
    parser.add_argument("-o", "--out", type=str, help="folder to write the pictures into (default: RUN)")
    parser.add_argument("--overwrite", action="store_true", help="replace pictures in that folder")
    group = parser.add_argument_group("options for a map")
    group.add_argument(
        "--kind",
        help=f"pictures to draw, of {', '.join(KINDS)} (default: all that the map and the options allow)",
        nargs="+",
        choices=list(KINDS),
        metavar="KIND",
    )
    group.add_argument(
        "--features",
        help="features to draw component planes of, by name or number (default: all, at most 240)",
        type=str,
        nargs="+",
        metavar="NAME",
    )
    group.add_argument(
        "--image-shape",
        help="height and width of the images if rows are flat images, and 3 for colors, which come last",
        type=int,
        nargs="+",
        metavar="SIDE",
    )
    _add_data_location(parser.add_argument_group("options for a model"))


def _add_report_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=str, help="folder that fit wrote")
    parser.add_argument("other", metavar="RUN2", nargs="?", type=str, help="another such folder, to compare RUN with")
    parser.add_argument(
        "-o", "--output", type=str, help="HTML file to write (default: report.html, or for two comparison.html, in RUN)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace that file")
    _add_data_location(parser)


def _add_experiment_options(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", choices=list(SUMMARIES), help=f"one of {', '.join(SUMMARIES)}")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="train on 15,000 images; without it, reported results are trained on all 45,000, which takes hours",
    )
    parser.add_argument(
        "-o",
        "--out",
        type=str,
        help="folder for JSON and pictures of all experiments; their page is FOLDER.md beside it (default: "
        f"{DEFAULT_FOLDER})",
    )
    parser.add_argument("--data-root", type=str, help="folder of MNIST and Fashion-MNIST, or of eICU (default: data)")
    parser.add_argument("--download", action="store_true", help="download the data if they are missing")
    parser.add_argument("--workers", type=int, help="trainings at once (default: one per core, or one on a GPU)")
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], help="where to train (default: auto, a GPU if there is one)"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _add_bench_options(parser: ArgumentParser) -> None:
    from somvae_ext.bench.options import add_options, description

    parser.description = description()
    add_options(parser)


def _add_info_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", type=str, help="folder that fit wrote")


def _add_data_location(group: Any) -> None:
    group.add_argument("--data-root", type=str, help="folder with MNIST/raw or FashionMNIST/raw (default: as in RUN)")
    group.add_argument("--download", action="store_true", help="download MNIST or Fashion-MNIST if it is missing")


def _parser_type() -> type[ArgumentParser]:
    from jsonargparse import ArgumentParser

    class Parser(ArgumentParser):
        """Reads the values of a ``--config`` file as if they had been written in a shell."""

        def parse_string(self, content: str, *args: Any, **options: Any) -> Namespace:
            return super().parse_string(quote_config_text(content, self), *args, **options)

    return Parser


def _help_formatter() -> type[argparse.HelpFormatter]:
    from jsonargparse import DefaultHelpFormatter

    class HelpFormatter(DefaultHelpFormatter):
        """Omits types and defaults, which our help states in words, and keeps lines as they were written."""

        def _get_help_string(self, action: argparse.Action) -> str:
            return action.help or ""

        def _fill_text(self, text: str, width: int, indent: str) -> str:
            if "\n" not in text:
                return super()._fill_text(text, width, indent)
            return "\n".join(f"{indent}{line}" for line in text.splitlines())

    return HelpFormatter
