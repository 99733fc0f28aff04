"""What an experiment is made of: sections, variants, shapes, formulas. No torch."""
