"""How many training steps does sharing save in the case studies' own designs, and how many could it save at all?

    python tests/benchmarks/sharing.py [--seeds 3]

Nothing is trained and no pack is read: paths are made over made-up sources of the studies' sizes, for

    segmentation  the parsing study's grid of real fractions: real, synthetic, mixed and fine-tuned
    landmarks     the landmark study's five set-ups on its shrinking real subsets
    matting       the matting study's four models, each base network and then refiner

and those that pretrain once more with pretraining 4 and 9 times as long as fine-tuning. `alone` is every path trained
by itself and `shared` what the keys of stages make of it. `limit` is the fewest steps by which anything could give the
same weights: each step counts once among all steps with the same history, which `designs.py` writes down from what a
recipe means, without paths, stages or keys. `of limit` is the part of the limit's saving that is reached, all of it
where nothing can be saved.

The last line is JSON: {DESIGN: {"alone": steps, "shared": steps, "limit": steps}}.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds

    from tests.benchmarks.designs import count, designs, of_limit

    found = {}
    print(f"{'design':<17}{'recipes':>8}{'alone':>13}{'shared':>13}{'limit':>13}{'times':>7}{'of limit':>10}")
    for design in designs():
        steps = found[design.name] = count(design, seeds)
        cells = "".join(f"{steps[name]:>13,}" for name in ("alone", "shared", "limit"))
        times = steps["alone"] / steps["shared"]
        print(f"{design.name:<17}{len(design.recipes):>8}{cells}{times:>7.2f}{of_limit(steps):>10.1%}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
