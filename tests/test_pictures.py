"""The README's pictures: those that are saved, and those that the script would take now."""

import re

import pytest
from PIL import Image

from tests.pictures import FOLDER, HELD, MARGIN, PANEL, STREAMING, take_panel, take_streaming

NAMES = (PANEL, STREAMING)
MOST_BYTES = 300_000  # of both
LEAST_WIDTH = 2 * 830  # pixels: sharp in a README, whose column is 830 wide, on a screen with two to each


def check(folder):
    """What holds of the pictures in a folder."""
    assert sum((folder / name).stat().st_size for name in NAMES) < MOST_BYTES
    for name in NAMES:
        with Image.open(folder / name) as picture:
            assert picture.format == "PNG"
            assert picture.width >= LEAST_WIDTH, name
            pixels = picture.convert("RGB")
        counts = sorted(count for count, _ in pixels.getcolors(pixels.width * pixels.height))
        assert len(counts) > 50, f"{name} has few colours for a page with text on it"
        assert counts[-1] < 0.95 * pixels.width * pixels.height, f"{name} is nearly blank"
        # Just within the margin nothing is drawn: nothing is cut through.
        left, top, right, bottom = MARGIN, MARGIN, pixels.width - MARGIN, pixels.height - MARGIN
        sides = [(left, top, right, top + 1), (left, bottom - 1, right, bottom)]
        sides += [(left, top, left + 1, bottom), (right - 1, top, right, bottom)]
        assert [pixels.crop(side).getextrema() for side in sides] == [((255, 255),) * 3] * 4, name


def test_the_saved_pictures_are_small_and_sharp_and_not_blank():
    check(FOLDER)


@pytest.mark.browser
@pytest.mark.slow
def test_pictures_that_are_taken_now_are_sharp_and_show_what_they_are_to_show(browser, environ, tmp_path_factory):
    """By a person with a key and a server of their own."""
    folder = tmp_path_factory.mktemp("pictures")
    environ(TOGETHER_API_KEY="no-picture-needs-it", TOGETHER_MODEL="nobody/no", TOGETHER_BASE_URL="http://127.0.0.1:9")
    streaming = take_streaming(browser, tmp_path_factory.mktemp("lab"), folder / STREAMING)
    panel = take_panel(browser, tmp_path_factory.mktemp("lab"), folder / PANEL)
    check(folder)
    # The answer streams: there is a footer once it has ended.
    assert re.search(rf"\w\s+local/smollm2-135m · {HELD} chunks · [\d.]+ s$", streaming.rstrip())
    assert re.search(r"^Done$", panel, re.MULTILINE)
    (strip,) = re.findall(r"^“.+” \d+\.\d %, log-probability .+$", panel, re.MULTILINE)
    assert len(re.findall(r"\d+\.\d %$", panel.partition(strip)[2], re.MULTILINE)) == 8
