"""Explain a variant. Prints its projections, logits, parameters and cache as formulas."""

from argparse import ArgumentParser, Namespace

EXAMPLE = "kvformer explain kv_pos"


def add_arguments(parser: ArgumentParser) -> None:
    """Which variant."""
    parser.add_argument("variant", help="variant, e.g. kv_pos")


def run(options: Namespace) -> None:
    """Print the variant's algebra."""
    from kvformer.config.messages import unknown
    from kvformer.errors import ConfigError
    from kvformer.spec.explanations import explain
    from kvformer.spec.variants import VARIANTS

    if options.variant not in VARIANTS:
        raise ConfigError(unknown("variant", options.variant, VARIANTS))
    print(explain(VARIANTS[options.variant]))
