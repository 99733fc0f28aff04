"""Speed of kvformer against the published formulation, and against the machine."""
