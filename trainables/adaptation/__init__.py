"""Normalisation that knows where a sample comes from, for any model: its BatchNorm2d layers change in place.

    none     BatchNorm2d
    adabn    BatchNorm2d, whose statistics `recompute_statistics` replaces after training (Li et al. 2016)
    real_bn  statistics of real samples alone are kept; the affine parameters are shared
    dsbn     affine parameters and statistics of each domain's own (Chang et al. 2019)
    dson     dsbn whose statistics are mixed with each sample's own (Seo et al. 2020)
    adain    synthetic features take the statistics of real ones (Huang and Belongie 2017), then BatchNorm2d

The training loop says which sample is which, once for each forward pass:

    adapt(model, "dsbn")
    with domains(model, batch["domain"]):
        loss = task.loss(model, batch)["total"]

Where torch.distributed has more than one process, every method's statistics are those of the whole batch, over all
ranks. A rank without samples of a domain takes part, and parameters of an absent domain then get gradients of zeros:
weight decay and momentum reach them there, while one process leaves them without a gradient, so alone.
"""

from trainables.adaptation.conversion import converted
from trainables.adaptation.methods import adapt, branch, domains, undecayed
from trainables.adaptation.recomputation import recompute_statistics

__all__ = ["adapt", "branch", "converted", "domains", "recompute_statistics", "undecayed"]
