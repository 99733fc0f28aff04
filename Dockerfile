# What the jobs of the workflow need, in the versions of requirements.lock; the package itself comes from the checkout, which
# Snakemake mounts. docs/cluster.md says how to build and use it.
FROM python:3.11-slim-bookworm

# git tells the commit for the provenance of a run.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git=1:2.* \
    && rm -rf /var/lib/apt/lists/*

COPY requirements.lock /opt/kvformer/requirements.lock
RUN pip install --no-cache-dir --requirement /opt/kvformer/requirements.lock
