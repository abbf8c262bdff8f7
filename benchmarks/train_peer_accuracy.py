"""AP50:95 on val of our trainer and of the peer's, from the same data, size, epochs, batch and network.

Both take the winner's recipe (mosaic, SGD, warm-up and cosine, EMA, last epochs plain with L1) from random weights and
are scored with their final averaged weights: confidence 0.01, NMS 0.65. `--default` gives ours our own default recipe,
`--set` changes single settings; the line says which.

    python benchmarks/train_peer_accuracy.py --peer FOLDER --data bccd [--seeds 0 1 2] [--set optimizer=adamw]
"""

from __future__ import annotations

import statistics
import sys

from verdict import conclude
from yolox_peer import arguments, changes, told, train_ours, train_peer


def main() -> int:
    options, task = arguments(__doc__, size=160, width=0.25, epochs=150, batch=16, warmup=5, plain=15, seeds=[0, 1])
    settings = changes(options.set)
    ours, peer = [], []
    for seed in options.seeds:
        found = train_peer(options.peer, task, seed, "--cache")
        model, _ = train_ours(task, seed, settings, options.default)
        parameters = sum(p.numel() for p in model.module.parameters())
        if parameters != found["parameters"]:
            print(f"networks differ: ours has {parameters} parameters, the peer's {found['parameters']}")
            return 1
        ours.append(float(model.info["ap"]))
        peer.append(float(found["ap"]))
        print(f"seed {seed}: ours {ours[-1]:.4f}, peer {peer[-1]:.4f}", flush=True)
    how = f"{task.data} at {task.size} px, width {task.width}, {task.epochs} epochs, {len(ours)} seeds"
    recipe = "our default recipe" if options.default else "the same recipe"
    what = f"AP50:95 beside Megvii YOLOX, {recipe}, {how}" + "".join(f", ours with {pair}" for pair in options.set)
    figure = f"{statistics.mean(ours):.4f} against {statistics.mean(peer):.4f}"
    return conclude(what, figure, "not below", statistics.mean(ours) >= statistics.mean(peer))


if __name__ == "__main__":
    sys.exit(told(main))
