"""The files that kvformer writes and reads, typed: the one owner of every format. No pandas, no torch.

`base` has the one reader and writer of JSON records. Of a run folder: `run` (its files, summary, failure), `metrics`,
`provenance`, `correct`. Of a study: `study` (with its looks) and `tuning`. Of prepared data: `manifest` and `linear`.
"""
