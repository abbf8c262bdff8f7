"""Images a processor second of our whole training loop against the peer's, on one machine, in turn, one thread each.

Both read bccd, keep its images in memory, apply mosaic and affine in the training process, and train the same network;
start-up, the first reading of the images and evaluation are left out. Each computes as it does by default: the peer in
float32 on a CPU, ours in bfloat16 where the processor can; `--set precision=fp32` compares like with like, and the line
then says so.

    python benchmarks/train_peer_speed.py --peer FOLDER [--size 320 --width 0.375]
    python benchmarks/train_peer_speed.py --peer FOLDER --device cuda --data coco_mini_person --size 320 --width 0.375 \
        --batch 64 --epochs 6

On a GPU the precision is what each side is shipped with there: bfloat16 ours, float16 the peer's.
"""

from __future__ import annotations

import statistics
import sys

from verdict import conclude
from yolox_peer import arguments, changes, told, train_ours, train_peer

BAR = 1.5


def main() -> int:
    options, task = arguments(__doc__, size=160, width=0.25, epochs=3, batch=16, warmup=1, plain=1, seeds=[0, 1, 2])
    settings = changes(options.set)
    steps = str(task.epochs * 12)
    ours, peer = [], []
    for seed in options.seeds:
        found = train_peer(options.peer, task, seed, "--cache", "--no-eval", "--max-steps", steps)
        peer.append(found["images_per_s"])
        ours.append(train_ours(task, seed, settings)[1])
        print(f"round {seed + 1}: ours {ours[-1]:.1f} images/s, peer {peer[-1]:.1f}", flush=True)
    ratio = statistics.median(a / b for a, b in zip(ours, peer, strict=True))
    how = f"{task.data} at {task.size} px, width {task.width}, batch {task.batch}"
    what = f"training loop against Megvii YOLOX, {how}" + "".join(f", ours with {pair}" for pair in options.set)
    figure = f"{ratio:.2f} x ({statistics.median(ours):.1f} and {statistics.median(peer):.1f} images/s)"
    return conclude(what, figure, f"{BAR} x", ratio >= BAR)


if __name__ == "__main__":
    sys.exit(told(main))
