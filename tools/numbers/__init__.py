"""Numbers in the documents, written from the committed results.

A number stands between two HTML comments, which GitHub does not show. The first one says how it is computed:

    `kv` loses <!-- = difference(reference, sort, kv) -->4.0 points<!-- / --> on sort.

`python -m tools.numbers` (`make docs`) computes every expression again and writes the text between the comments;
`--check` changes nothing, and names the file and the line of each text that differs.

`markdown` finds the markers and `expressions` reads what they say. The words that an expression can use are the
functions of `inline`, `tables`, `speed`, `simulated`, `scaling` and `verdict`, which also draws the picture of the
README. `values` prints numbers. `results` reads the committed results.
"""
