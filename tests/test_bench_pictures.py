"""Pictures of the report and of `bsqcodec compare`: where they are enlarged, what they say, how they are kept."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import report_samples as samples
from PIL import Image

from bsqcodec.bench import pictures
from bsqcodec.metrics import frame_psnr


@pytest.fixture(scope="module")
def picture():
    return samples.picture()


def test_crop_is_where_the_pictures_differ_most():
    flat = np.full((200, 300), 128, np.uint8)
    other = flat.copy()
    other[60:70, 10:290] += 3  # a wide faint difference
    other[150:170, 200:220] += 60  # a small strong one
    x, y, width, height = pictures.find_crop(flat, other, (64, 48))
    assert (width, height) == (64, 48)
    assert x <= 200 and x + 64 >= 220 and y <= 150 and y + 48 >= 170
    assert other.astype(int)[y : y + 48, x : x + 64].sum() - 128 * 64 * 48 == 20 * 20 * 60


def test_crop_of_identical_pictures_is_where_the_detail_is():
    plane = np.full((200, 300), 128, np.uint8)
    plane[20:40:2, 30:50] = 255
    x, y, _, _ = pictures.find_crop(plane, plane, (64, 48))
    assert x <= 30 and x + 64 >= 50 and y <= 20 and y + 48 >= 40
    assert pictures.find_crop(plane[:20, :30], plane[:20, :30]) == (0, 0, 30, 20)  # no larger than the picture


def test_picture_knows_the_quality_of_its_frame(picture):
    frame = samples.frames(1)[0]
    assert picture.shots[0].psnr is None
    assert picture.shots[1].psnr == pytest.approx(frame_psnr(frame, samples.coarser(frame, 8)).yuv)
    assert picture.shots[1].facts == f"{picture.shots[1].psnr:.2f} dB, 0.0123 bpp, 12,345 bytes"
    assert picture.shots[1].psnr > picture.shots[2].psnr
    same = pictures.make_picture("a", 0, frame, frame, frame, ours_is=pictures.Coded("x"), other_is=pictures.Coded("y"))
    assert same.shots[1].facts == "identical"


def decoded(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_images_of_the_page_are_lossless_while_they_fit(picture):
    ((whole, *_),), lossless = pictures.page_images([picture], 2**30)
    assert lossless
    assert np.array_equal(decoded(whole), picture.shots[0].rgb)
    (rows,), lossless = pictures.page_images([picture], 1000)
    assert not lossless
    error = np.abs(decoded(rows[0]).astype(int) - picture.shots[0].rgb)
    assert 0 < error.mean() < 3
    x, y, width, height = picture.crop
    for uri, shot in zip(pictures.crop_images(picture), picture.shots, strict=True):
        assert np.array_equal(decoded(uri), shot.rgb[y : y + height, x : x + width])


def test_wide_pictures_are_made_smaller(picture):
    wide = np.repeat(np.repeat(picture.shots[0].rgb, 3, axis=0), 3, axis=1)[:90]
    shots = tuple(pictures.Shot(str(i), wide) for i in range(3))
    (rows,), _ = pictures.page_images([pictures.Picture("a", 0, shots, (0, 0, 8, 8))], 0)
    assert decoded(rows[0]).shape == (60, pictures.MAX_WIDTH, 3)


def test_sheet_shows_the_frames_and_the_enlarged_crop(picture):
    image = np.asarray(pictures.sheet(picture.shots, picture.crop))
    height, width = picture.shots[0].rgb.shape[:2]
    x, y, crop_width, crop_height = picture.crop
    top, left = 2 * pictures.CAPTION, width + pictures.GAP
    inside = image[top : top + y, left : left + width]
    assert np.array_equal(inside, picture.shots[1].rgb[:y])
    zoom = width // crop_width
    below = image[top + height + pictures.GAP :, left : left + crop_width * zoom]
    part = picture.shots[1].rgb[y : y + crop_height, x : x + crop_width]
    assert np.array_equal(below, part.repeat(zoom, 0).repeat(zoom, 1))
