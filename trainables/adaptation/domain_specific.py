"""`dsbn` and `dson`: what a domain has of its own in every layer; the convolutions are shared.

Chang et al., "Domain-Specific Batch Normalization for Unsupervised Domain Adaptation" (CVPR 2019), with the state_dict
keys of woozch/DSBN: `bn1.bns.{domain}.weight`. Seo et al., "Learning to Optimize Domain Specific Normalization for
Domain Generalization" (ECCV 2020): the branches' statistics are mixed with each sample's own.

A mixed batch is divided inside of the layer, where the reference takes the branch of the first sample for all.
"""

import torch
from torch import Tensor, nn

from datasets import Domain
from trainables.adaptation.batch_norm import (
    DomainAware,
    by_batch_statistics,
    by_domain,
    by_pooled_statistics,
    by_running_statistics,
)
from trainables.adaptation.moments import affine, moments
from trainables.adaptation.pooled import Groups, Pooled, buffers, parameters, world_size


class MixedBatchNorm2d(nn.BatchNorm2d):
    """A branch of `dson`: `mixture`, a scalar a, gives w = sigmoid(a), the weight of the batch's statistics."""

    def __init__(self, num_features: int, eps: float, momentum: float | None) -> None:
        super().__init__(num_features, eps, momentum)
        self.mixture = nn.Parameter(torch.zeros(()))


class BranchedNorm2d(DomainAware, nn.Module):
    """One normalisation for each domain. Input and output float [B, C, H, W].

    `bns` are the branches, by `datasets.Domain`; `evaluated` is the one that evaluation uses. In training, inside
    `domains`, a branch that is itself in evaluation mode (a frozen one) uses its running statistics and keeps them.
    """

    evaluated: Domain = Domain.REAL  # set by `branch`; on the class, because layers change class in place
    branch_class: type[nn.BatchNorm2d]
    bns: nn.ModuleList

    @classmethod
    def convert(cls, layer: nn.BatchNorm2d) -> None:
        """Makes a BatchNorm2d one of this class, in place: its parameters and buffers are copied to every branch."""
        bns = []
        for _ in Domain:
            norm = cls.branch_class(layer.num_features, layer.eps, layer.momentum).to(layer.weight)
            norm.load_state_dict(layer.state_dict(), strict=False)
            for name, parameter in layer.named_parameters():
                getattr(norm, name).requires_grad_(parameter.requires_grad)
            bns.append(norm)
        layer._parameters.clear()
        layer._buffers.clear()
        module: nn.Module = layer
        module.__class__ = cls
        module.bns = nn.ModuleList(bns).train(layer.training)

    def norms(self) -> list[nn.BatchNorm2d]:
        """The branches, by domain."""
        return list(self.bns)  # type: ignore[arg-type]


class DomainBatchNorm2d(BranchedNorm2d):
    """`dsbn`: BatchNorm2d for each domain, its affine parameters and running statistics included.

    A domain with a single value per channel is normalised by its running statistics and updates nothing.
    """

    method = "dsbn"
    branch_class = nn.BatchNorm2d

    def forward(self, input: Tensor) -> Tensor:
        norms = self.norms()
        if not self.training:
            return norms[self.evaluated](input)
        split = self.known_split(input)
        if world_size() == 1:
            return by_domain(input, split, norms[Domain.REAL], norms[Domain.SYNTHETIC], synthetic_tracks=True)
        return by_pooled_statistics(input, split.groups, norms, norms)


class MixedNorm2d(BranchedNorm2d):
    """`dson`: statistics of the domain's batch (BN) and of the sample itself (IN), mixed by a learned weight.

    For a sample n of domain d, with w = sigmoid(bns[d].mixture), one for the layer's mean and variance:

        mean = w mean_BN,d + (1 - w) mean_IN,n      var = w var_BN,d + (1 - w) var_IN,n
        y = weight_d (x - mean) / sqrt(var + eps) + bias_d

    with biased variances. The running statistics are of BN alone, for each domain; evaluation mixes those of the
    branch with each sample's own. A map of one pixel has no variance of its own: it is normalised as by `dsbn`.
    """

    method = "dson"
    branch_class = MixedBatchNorm2d

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return self._by_running_statistics(input, self.evaluated)
        split = self.known_split(input)
        norms = self.norms()
        present = [norms[domain] for domain in split.present]
        if input[0, 0].numel() > 1:
            return self._mixed(input, split.groups, present)
        if world_size() > 1:
            output = by_pooled_statistics(input, split.groups, norms, norms)
            # A mixture that is not used: its gradient of zeros is what DistributedDataParallel waits for.
            return output + 0 * sum(norm.mixture for norm in norms)  # type: ignore[misc]
        return by_domain(input, split, norms[Domain.REAL], norms[Domain.SYNTHETIC], synthetic_tracks=True)

    def by_batch_statistics(self, x: Tensor) -> Tensor:
        """Normalises samples of the real domain by the batch's statistics and their own; moves no statistic."""
        norm = self.norms()[Domain.REAL]
        if x[0, 0].numel() == 1:
            return by_batch_statistics(norm, x)
        centred, mean, var = moments(x)
        together = mean.mean(0, keepdim=True)
        spread = (var + mean.square()).mean(0, keepdim=True) - together.square()
        return self._affine(centred, mean, var, Groups.one(len(x), len(x), x.device), [norm], (together, spread))

    def _by_running_statistics(self, x: Tensor, domain: Domain) -> Tensor:
        norm = self.norms()[domain]
        if x[0, 0].numel() == 1:
            return by_running_statistics(norm, x)
        _, running_mean, running_var = buffers(norm)
        running = running_mean[None].double(), running_var[None].double()
        return self._affine(*moments(x), Groups.one(len(x), len(x), x.device), [norm], running)

    def _mixed(self, x: Tensor, groups: Groups, norms: list[nn.BatchNorm2d]) -> Tensor:
        centred, mean, var = moments(x)
        pooled = Pooled.of(mean, var, x[0, 0].numel(), groups)
        for group, norm in enumerate(norms):
            if norm.training:
                pooled.track(group, norm)
        return self._affine(centred, mean, var, groups, norms, pooled.used(norms))

    def _affine(
        self,
        centred: Tensor,
        mean: Tensor,
        var: Tensor,
        groups: Groups,
        norms: list[nn.BatchNorm2d],
        statistics: tuple[Tensor, Tensor],
    ) -> Tensor:
        """The layer's output, of the samples' mean and var [B, C] and the groups' statistics, float64 [D, C]."""
        # With w the batch's share: mean_n - mixed mean = w (mean_n - batch mean), and the same mixes the variances.
        share = torch.stack([norm.mixture for norm in norms]).double().sigmoid()[:, None]  # type: ignore[misc]
        rows = groups.spread(torch.cat([*statistics, parameters(norms), share], dim=1))
        batch_mean, batch_var, weight, bias, share = rows.split([mean.shape[1]] * 4 + [1], dim=1)
        scale = weight * torch.rsqrt(torch.lerp(var, batch_var, share) + norms[0].eps)
        return affine(centred, scale, torch.addcmul(bias, share * (mean - batch_mean), scale))
