"""Speed of kvformer, compared with the published formulation and with the machine."""
