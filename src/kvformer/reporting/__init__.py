"""From run folders to tables, figures and the report: reads files only, never torch or the training code."""
