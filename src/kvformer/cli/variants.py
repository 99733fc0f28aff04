"""List the attention variants, with parameters and cache relative to qkv."""

from argparse import Namespace


def run(options: Namespace) -> None:
    """Print one line per variant, with its parameters and cache in a decoder, relative to qkv."""
    from kvformer.spec.formulas import cache_elements, parameters, total_attention_parameters
    from kvformer.spec.sections import ModelConfig
    from kvformer.spec.shapes import Shape
    from kvformer.spec.variants import VARIANTS, Variant

    model = ModelConfig(
        dim=256, layers=6, heads=8, mlp_ratio=4.0, projection_bias=False, output_bias=False, positions="rope"
    )
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
        "Relative to qkv, in a decoder of width 256 with 8 heads, 6 layers and rotary positions. attention: parameters "
        "of the attention layers; model: of all layers; cache: numbers kept per token."
    )
