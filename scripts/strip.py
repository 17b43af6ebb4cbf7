"""A film strip of a video, as one picture: `python scripts/strip.py VIDEO.mp4 docs/agent.png`."""

import argparse
from pathlib import Path

import av
import numpy as np
from PIL import Image


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("video", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--frames", type=int, default=6)
    options = arguments.parse_args()
    with av.open(str(options.video)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    chosen = np.linspace(0, len(frames) - 1, min(options.frames, len(frames))).round().astype(int)
    Image.fromarray(np.concatenate([frames[i] for i in chosen], axis=1)).save(options.out)


if __name__ == "__main__":
    main()
