"""The files that kvformer writes and reads, typed: the one owner of every format. No pandas, no torch.

`run` holds the files of a run folder, `study` the study's `study.json`, `manifest` prepared data, `base` the one reader
and writer of JSON records.
"""
