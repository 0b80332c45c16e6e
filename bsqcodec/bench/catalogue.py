"""The datasets that `bsqcodec bench` knows by name: what each clip is called, how large it is, where it is published.

Sizes of archives are bytes of the published file; None = not known. "Not known" is said wherever a size or a
checksum would be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

SHIPPED = Path(__file__).resolve().parent / "data"  # the mini set
VIDEO_SUFFIXES = (".yuv", ".y4m", ".mkv", ".mp4", ".mov", ".webm", ".avi", ".7z")  # of a clip, the best first
IMAGE_SUFFIXES = (".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")  # can be lossless; the best first


@dataclass(frozen=True)
class Item:
    """One clip as its authors publish it: 8-bit 4:2:0, or an image.

    stem: name of the file without suffix. published: name of the file on the site, an archive or the file itself;
    url None = there is no address that a program may fetch it from. bytes, sha256 (hex): of the published file.
    width, height: luma samples; fps: frames per second (an image has 25, which means nothing); frames: count.
    """

    name: str
    stem: str
    width: int
    height: int
    fps: Fraction
    frames: int
    published: str
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Stems that a file of this clip may have, the best first, lower case."""
        return tuple(dict.fromkeys(s.lower() for s in (self.stem, Path(self.published).stem, self.name)))


@dataclass(frozen=True)
class Dataset:
    """A named set of clips.

    home: the page of its authors; licence: as far as known; suffixes: of its files; qualities: crf values by codec,
    where they are not the codec's own.
    """

    name: str
    title: str
    home: str
    licence: str
    items: tuple[Item, ...]
    suffixes: tuple[str, ...] = VIDEO_SUFFIXES
    qualities: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


# Archive sizes in bytes. ReadySteadyGo is called ReadySetGo in the name of its archive, not in that of the file in it.
_UVG = {
    "Beauty": 925_430_047,
    "Bosphorus": 680_772_328,
    "HoneyBee": 906_770_507,
    "Jockey": 770_631_599,
    "ReadySteadyGo": None,
    "ShakeNDry": 460_046_003,
    "YachtRide": None,
}
_UVG_SHORT = {"ShakeNDry": 300}  # frames; the others have 600
_UVG_ARCHIVES = {"ReadySteadyGo": "ReadySetGo"}


def _uvg() -> Dataset:
    items = []
    for name, size in _UVG.items():
        archive = f"{_UVG_ARCHIVES.get(name, name)}_1920x1080_120fps_420_8bit_YUV_RAW.7z"
        stem, url = f"{name}_1920x1080_120fps_420_8bit_YUV", f"https://ultravideo.fi/video/{archive}"
        frames = _UVG_SHORT.get(name, 600)
        items.append(Item(name, stem, 1920, 1080, Fraction(120), frames, archive, url, size))
    title = "UVG, 7 clips of 1920x1080 at 120 frames/s (Ultra Video Group, Tampere University)"
    return Dataset("uvg", title, "https://ultravideo.fi/dataset.html", "CC BY-NC 3.0", tuple(items))


_MCL_25 = {5, 6, 7, 8, 9, 18, 20}  # clips of 25 frames/s, 125 frames
_MCL_24 = {17, 21, 22, 23, 24, 25, 29}  # of 24 frames/s, 120 frames; the rest has 30 and 150


def _mcl_jcv() -> Dataset:
    items = []
    for number in range(1, 31):
        fps = 25 if number in _MCL_25 else 24 if number in _MCL_24 else 30
        name, frames = f"videoSRC{number:02d}", 5 * fps
        stem = f"{name}_1920x1080_{fps}"
        items.append(Item(name, stem, 1920, 1080, Fraction(fps), frames, f"{stem}.yuv", bytes=frames * 3_110_400))
    title = "MCL-JCV, 30 clips of 1920x1080 at 24 to 30 frames/s (Media Communications Lab, USC)"
    licence = "not stated by the authors as far as known; read the terms on the page"
    return Dataset("mcl-jcv", title, "https://mcl.usc.edu/mcl-jcv-dataset/", licence, tuple(items))


_KODAK_PORTRAIT = {4, 9, 10, 17, 18, 19}  # 512x768; the others are 768x512
_KODAK_SHA256 = """
    a56e27cbf5f843c048b6af1d6e090760e9c92fadba88b7dee0205918a37523bd
    4f4b74a79237e311d72cad958237b5f7088d8bce1c82305ebefe1a70e3022dfd
    e25ca1ff2f0c0cb5fdfd5f9b0a0bb21ac4c3de3c84a67f35b09a85d3306249db
    e3b946107c5d3441c022f678d0c3caf1e224d81b1604ba840a4f88e562de61aa
    10349e963c5c813d327852f82c1795fa4148d69fedffc4c589bee458e3ac3d53
    363510303b715d4cbc384e1ce227e466b613a09e1b71ae985882bf8e7fbd9b18
    b77d3f006f42414bb242222e0482e750c0fb9e5ee8d4bed2f6f11c5605fe54a4
    ba23983c76b4832ee0e8af0592664756841a16779acd69f792e268fb6d13d6e7
    6a4361c2fc194feb4edaa9f9a4a0620fb9943e460ac7fdf037fb0f6dd6607a7d
    9dfb70f5867c29ff9ed6313683f19b3d867849e40fbc0c4c54a4a89df341cf23
    7936814b58b5387fce2e4e2488b4ec830dadd95fa9520f358ddb30990b50f2b6
    d78c37c2f04f23761ed2367dd77e2db584ddd4c3950833fecf89f199a8126980
    bc34a3ce58dea09dce1704c997171602de90cb34d0c8503a988b77f473d39b08
    55a94550ff18f3246c4074fd32b77b0c74447c26b6ad274d564d999c0450ba6e
    7538cbb80cb9103606c48b806eae57d56c885c7f90b9b3be70a41160f9cbb683
    a89c7268ccd4718ba424a99fc4643c572cf692ca6eae887185ceb4e9f11d2e54
    37afcc89fbdcb76d9518e04b2fc011027e2f4cd14b3b2f83cefd721641a47c5b
    1a9258c365988961d87a0598725b609139c303ad48a5aad6c503c3b1a87849aa
    b7450b264b1b0a411390d8931b112c27905a992520fc90569dc4b920aa32bbdc
    3b46c71e3b92a563820ba32936be8330c586c41f938efd94be938386aae4328a
    ac958597c82073f6bb65129c68f72b651db5b9efd82e11547d07350214bc268b
    1cee58eb1f2d9c7ebb254d208a03c783ce6cf2c4d8c2cf45e235dd23b4ce1b29
    e3111a2fd4da24af15d6459ef9eacfe54106b38e27b4a21821b75c3f5d2d5baf
    1071c68372cc5a01435c2c225a5cf7d4bb803846ec08bb6b3d6721b156d7cb96
""".split()  # of kodim01.png .. kodim24.png


def _kodak() -> Dataset:
    items = []
    for number, sha256 in enumerate(_KODAK_SHA256, 1):
        name = f"kodim{number:02d}"
        width, height = (512, 768) if number in _KODAK_PORTRAIT else (768, 512)
        url = f"https://r0k.us/graphics/kodak/kodak/{name}.png"
        items.append(Item(name, name, width, height, Fraction(25), 1, f"{name}.png", url, sha256=sha256))
    title = "Kodak Lossless True Color Image Suite, 24 photographs of 768x512, one-frame videos here"
    licence = "released by Kodak for unrestricted use, as its page understands"
    return Dataset("kodak", title, "https://r0k.us/graphics/kodak/", licence, tuple(items), IMAGE_SUFFIXES)


def _mini() -> Dataset:
    items = tuple(
        Item(name, f"{name}_640x360", 640, 360, Fraction(30000, 1001), 32, f"{name}_640x360.mp4")
        for name in ("bee", "butterfly", "flower")
    )
    title = "mini, 3 clips of 640x360, 32 frames each, shipped with bsqcodec"
    # Few, so that the first `bsqcodec bench` takes minutes.
    qualities = dict.fromkeys(("bsqcodec", "x264", "x265"), (20.0, 25.0, 30.0, 35.0, 40.0))
    return Dataset("mini", title, "bsqcodec/bench/data/README.md", "CC0 1.0", items, qualities=qualities)


DATASETS: dict[str, Dataset] = {d.name: d for d in (_mini(), _uvg(), _mcl_jcv(), _kodak())}
