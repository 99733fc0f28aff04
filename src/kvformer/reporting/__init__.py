"""Results in print: tables, figures, sentences and the page. Formats what `analysis` computed; never imports torch."""
