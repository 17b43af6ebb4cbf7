"""Cuts the fonts of drawn screens to printable ASCII, from Debian's packages (needs fonttools):

    mkdir -p /tmp/fonts && cd /tmp/fonts
    apt-get download fonts-croscore fonts-roboto-unhinted fonts-open-sans fonts-dejavu-core
    for package in *.deb; do dpkg-deb -x "$package" .; done
    cd - && python scripts/fonts.py /tmp/fonts assets/gui/fonts

Instructions for hinting are dropped: FreeType then fits the outlines to the pixels by itself, in all fonts alike.
"""

import argparse
import shutil
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

FILES = {
    "arimo": "croscore/Arimo-Regular.ttf",
    "cousine": "croscore/Cousine-Regular.ttf",
    "dejavu-sans": "dejavu/DejaVuSans.ttf",
    "open-sans": "open-sans/OpenSans-Regular.ttf",
    "roboto": "roboto/unhinted/RobotoTTF/Roboto-Regular.ttf",
    "tinos": "croscore/Tinos-Regular.ttf",
}
PACKAGES = ("fonts-croscore", "fonts-dejavu-core", "fonts-open-sans", "fonts-roboto-unhinted")
APACHE = Path("/usr/share/common-licenses/Apache-2.0")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("packages", type=Path, help="where Debian's packages were unpacked")
    arguments.add_argument("out", type=Path)
    options = arguments.parse_args()
    (options.out / "licences").mkdir(parents=True, exist_ok=True)
    for name, file in FILES.items():
        cut(options.packages / "usr/share/fonts/truetype" / file, options.out / f"{name}.ttf")
    for package in PACKAGES:
        shutil.copy(options.packages / "usr/share/doc" / package / "copyright", options.out / f"licences/{package}.txt")
    shutil.copy(APACHE, options.out / "licences" / "Apache-2.0.txt")


def cut(source: Path, target: Path) -> None:
    """The printable ASCII of a font, its names and its licence."""
    settings = subset.Options(hinting=False, layout_features=[], name_IDs=["*"], notdef_outline=True)
    font = TTFont(source)
    cutter = subset.Subsetter(settings)
    cutter.populate(unicodes=range(0x20, 0x7F))
    cutter.subset(font)
    font.save(target)


if __name__ == "__main__":
    main()
