"""Show one run without training it. Prints its resolved configuration, its parameter counts and the shape of every
parameter."""

import json
from argparse import ArgumentParser, Namespace

from kvformer.cli.options import add_run, chosen_run

EXAMPLE = "kvformer describe reverse kv --set model.dim=32 --json"


def add_arguments(parser: ArgumentParser) -> None:
    """Which run, and whether to print JSON."""
    add_run(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: Namespace) -> None:
    """Print the run as text or JSON."""
    from kvformer.models.build import build_model
    from kvformer.spec.formulas import cache_elements, parameters
    from kvformer.spec.variants import VARIANTS

    config, _ = chosen_run(options)
    variant, architecture = VARIANTS[config.variant], config.definition.architecture
    shape = config.definition.shape(config.data, None)
    model = build_model(config, shape)
    sections = config.model_dump(mode="json")
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    total = sum(parameter.numel() for parameter in model.parameters())
    if options.json:
        content = {
            "config": {**sections, "hash": config.hash},
            "parameters": total,
            "parameters_by_formula": parameters(architecture, variant, config.model, shape),
            "shapes": shapes,
            "cache_elements_per_token": cache_elements(variant, config.model) if architecture == "gpt" else None,
        }
        print(json.dumps(content, indent=1))
        return
    print(f"{config.task} with {config.variant}: {config.definition.summary}")
    print(f"attention: {variant.formula}  ({variant.reference})")
    for part in ("data", "model", "training"):
        print(f"{part}:", ", ".join(f"{key} {value}" for key, value in sections[part].items()))
    print(f"parameters: {total:,}")
    for name, sizes in shapes.items():
        print(f"  {name} {' x '.join(map(str, sizes))}")
