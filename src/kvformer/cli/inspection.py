"""`kvformer describe | variants | tasks | explain`: look at what would be run, without training."""

import argparse
import json

from kvformer.cli.options import Commands, add_run_options


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    parser = commands.add_parser(
        "describe",
        help="show one run's configuration, parameters and shapes without training",
        epilog="example: kvformer describe reverse kv --set model.dim=32 --json",
    )
    add_run_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=describe)
    for name, handler, text in (
        ("tasks", tasks, "list the tasks"),
        ("variants", variants, "list the attention variants, with parameters and cache relative to qkv"),
    ):
        commands.add_parser(name, help=text, description=f"{text.capitalize()}.").set_defaults(handler=handler)
    parser = commands.add_parser("explain", help="explain a variant", epilog="example: kvformer explain kv_pos")
    parser.add_argument("variant", help="variant, e.g. kv_pos")
    parser.set_defaults(handler=explain)


def describe(options: argparse.Namespace) -> None:
    """Print the resolved configuration, parameter counts and the shape of every parameter."""
    from kvformer.config.loading import single_run
    from kvformer.models.build import build_model
    from kvformer.spec.formulas import cache_elements, parameters
    from kvformer.spec.variants import VARIANTS

    run, _ = single_run(options.task, options.variant, options.seed, options.config, options.overrides, options.setting)
    shape = run.definition.shape(run.data, None)
    model = build_model(run, shape)
    variant = VARIANTS[run.variant]
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    content = {
        "config": {**run.model_dump(mode="json"), "hash": run.hash},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "parameters_by_formula": parameters(run.definition.architecture, variant, run.model, shape),
        "shapes": shapes,
        "cache_elements_per_token": cache_elements(variant, run.model)
        if run.definition.architecture == "gpt"
        else None,
    }
    if options.json:
        print(json.dumps(content, indent=1))
        return
    print(f"{run.task} with {run.variant}: {run.definition.summary}")
    print(f"attention: {variant.formula}  ({variant.reference})")
    for part in ("data", "model", "training"):
        values = run.model_dump(mode="json")[part]
        print(f"{part}:", ", ".join(f"{key} {value}" for key, value in values.items()))
    print(f"parameters: {content['parameters']:,}")
    for name, sizes in shapes.items():
        print(f"  {name} {' x '.join(map(str, sizes))}")


def tasks(options: argparse.Namespace) -> None:
    """Print the tasks."""
    from kvformer.tasks import TASKS

    for task in TASKS.values():
        print(f"{task.name:14} {task.family:10} {task.summary} Judged by {task.metric} ({task.goal}).")


def variants(options: argparse.Namespace) -> None:
    """Print the table of variants, with parameters and cache of a decoder relative to qkv."""
    from kvformer.spec.formulas import cache_elements, parameters, total_attention_parameters
    from kvformer.spec.sections import ModelConfig
    from kvformer.spec.shapes import Shape
    from kvformer.spec.variants import VARIANTS, Variant

    model = ModelConfig(dim=256, layers=6, heads=8, mlp_ratio=4.0, projection_bias=False, output_bias=False)
    shape = Shape(length=64, inputs=65, outputs=65)

    def costs(variant: Variant) -> tuple[int, int, int]:
        attention = total_attention_parameters("gpt", variant, model, shape)
        return attention, parameters("gpt", variant, model, shape), cache_elements(variant, model)

    full, width = costs(VARIANTS["qkv"]), max(len(variant.formula) for variant in VARIANTS.values())
    print(f"{'name':13} {'formula':{width}} attention  model  cache  reference")
    for variant in VARIANTS.values():
        attention, whole, cache = (own / all_ for own, all_ in zip(costs(variant), full, strict=True))
        shares = f"{attention:9.3f} {whole:6.3f} {cache:6.3f}"
        print(f"{variant.name:13} {variant.formula:{width}} {shares}  {variant.reference}")
    print(
        "Relative to qkv, in a decoder of width 256 with 8 heads and 6 layers. attention: parameters of the attention "
        "layers; model: of all layers; cache: numbers kept a token."
    )


def explain(options: argparse.Namespace) -> None:
    """Print a variant's algebra."""
    from kvformer.errors import ConfigError
    from kvformer.spec.explanations import explain as explain_variant
    from kvformer.spec.variants import VARIANTS

    if options.variant not in VARIANTS:
        raise ConfigError(f"there is no variant '{options.variant}'; allowed: {', '.join(VARIANTS)}")
    print(explain_variant(VARIANTS[options.variant]))
