"""Simulations that justify the rule of comparison (docs/statistics.md).

`python -m tools.simulations` draws studies whose true differences are known, decides them with the functions of
`kvformer.analysis.testing`, and writes what it found to docs/simulations: how often a rule says something false
(errors.csv), how often the intervals contain the true difference (intervals.csv), how much a design decides and what it
costs (power.csv), and a figure. Seeds are fixed, so it can be repeated. It takes a few minutes on one core.

`studies` draws, `designs` decides; `errors` and `power` count; `figure` draws the picture.
"""
