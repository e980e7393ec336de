"""Arguments in, checked settings out."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace

import pytest
from PIL import Image

from ditail_ext.errors import SettingsError
from ditail_ext.settings import TABLE, Settings

DEFAULTS = [setting.default for setting in TABLE.values()]


@pytest.fixture
def parse(host: SimpleNamespace):
    return host.load("request.arguments").parse_request


def picture_bytes(kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 3), (9, 99, 199)).save(buffer, kind)
    return buffer.getvalue()


def test_positions_are_the_tables_order(host: SimpleNamespace):
    arguments = host.load("request.arguments").ARGUMENTS
    assert arguments == (*TABLE, "mask", "picture")
    assert next(iter(TABLE)) == "enabled"


def test_defaults_ask_for_nothing(parse):
    assert parse(DEFAULTS) is None
    assert parse([*DEFAULTS, None]) is None
    assert parse([*DEFAULTS, None, None]) is None
    assert parse([]) is None


def test_what_is_not_enabled_is_not_looked_at(parse):
    assert parse([False, 3]) is None
    assert parse([{"enabled": False, "positive_scale": "?"}]) is None


def test_by_position(parse):
    request = parse([True, "a.safetensors", "automatic", 2, 1.5])
    assert request.settings == Settings(
        enabled=True, source_checkpoint="a.safetensors", positive_scale=2.0, negative_scale=1.5
    )
    assert request.picture is None


def test_by_name(parse):
    request = parse([{"positive_scale": 2.0}, *DEFAULTS[1:], None, None])
    assert request.settings == Settings(enabled=True, positive_scale=2.0)


def test_names_win_over_positions(parse):
    from_infotext = [True, "a.safetensors", "automatic", 4.0]
    request = parse([{"positive_scale": 2}, *from_infotext[1:]])
    assert (request.settings.source_checkpoint, request.settings.positive_scale) == ("a.safetensors", 2.0)


@pytest.mark.parametrize("text", ["plain", "data URL", "wrapped"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_in_base64(parse, text: str, kind: str):
    plain = base64.b64encode(picture_bytes(kind)).decode()
    value = {
        "plain": plain,
        "data URL": f"data:image/{kind.lower()};base64,{plain}",
        "wrapped": f"{plain[:20]}\n{plain[20:]}",
    }
    assert parse([{"picture": value[text]}]).picture.size == (5, 3)


def test_a_picture_from_the_panel(parse):
    picture = Image.new("RGB", (2, 2))
    assert parse([True, *DEFAULTS[1:], None, picture]).picture is picture


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_what_is_transparent_has_an_opacity(parse, mode: str):
    """Whichever way the file says it; the host lays only RGBA over a background."""
    picture = Image.new(mode, (5, 3), "white")
    assert parse([{"picture": encoded(picture)}]).picture.mode == ("RGBA" if "A" in mode else mode)
    if "A" in mode:
        picture.putalpha(0)
    else:
        picture.info["transparency"] = (255, 255, 255) if mode == "RGB" else picture.getpixel((0, 0))
    assert parse([{"picture": encoded(picture)}]).picture.getchannel("A").getextrema() == (0, 0)


def test_img2img_takes_no_content_picture(parse):
    picture = base64.b64encode(picture_bytes()).decode()
    with pytest.raises(SettingsError, match="picture is for txt2img alone"):
        parse([{"picture": picture}, *DEFAULTS[1:], None])


def encoded(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_mask_given_by_name_is_the_region(parse):
    request = parse([{"mask": encoded(Image.new("L", (5, 3), 100))}, *DEFAULTS[1:], None])
    assert (request.mask.mode, request.mask.size, request.mask.getpixel((0, 0))) == ("L", (5, 3), 100)
    assert request.settings == Settings(enabled=True, region="region mask")
    kept = parse([{"mask": encoded(Image.new("L", (5, 3))), "region": "inpaint mask"}])
    assert kept.settings.region == "inpaint mask"
    assert parse([{"mask": None}]).settings.region == "everywhere"
    assert parse([{"mask": ""}]).settings.region == "everywhere"


def test_the_region_mask_must_be_there(parse):
    with pytest.raises(SettingsError, match="there is no mask"):
        parse([{"region": "region mask"}])
    overridden = parse([{"mask": encoded(Image.new("L", (5, 3)))}], {"region": "everywhere"})
    assert overridden.settings.region == "everywhere"


def half(mode: str, dark: object, bright: object) -> Image.Image:
    picture = Image.new(mode, (4, 2), dark)
    picture.paste(bright, (0, 0, 2, 2))
    return picture


MASKS = {
    "grey": (half("L", 10, 200), [200, 10]),
    "colour": (half("RGB", (10, 10, 10), (200, 200, 200)), [200, 10]),
    "one bit": (half("1", 0, 1), [255, 0]),
    "16 bit": (half("I", 257 * 10, 257 * 200).convert("I;16"), [200, 10]),
    "transparent": (half("RGBA", (255, 255, 255, 0), (0, 0, 0, 200)), [200, 0]),
    "opaque": (half("RGBA", (10, 10, 10, 255), (200, 200, 200, 255)), [200, 10]),
    "grey and transparent": (half("LA", (255, 10), (0, 200)), [200, 10]),
}


@pytest.mark.parametrize("kind", MASKS)
def test_kinds_of_masks(parse, kind: str):
    picture, expected = MASKS[kind]
    for value in (picture, encoded(picture)):
        mask = parse([{"mask": value}]).mask
        assert mask.mode == "L"
        assert [mask.getpixel((at, 0)) for at in (0, 3)] == expected


def test_a_mask_from_the_panel_is_what_was_painted_or_else_the_picture(parse):
    picture, painted, blank = (
        Image.new("RGBA", (4, 2), "grey"),
        half("RGB", "black", "white"),
        Image.new("RGB", (4, 2)),
    )
    values = [True, *DEFAULTS[1:]]
    values[list(TABLE).index("region")] = "region mask"
    assert parse([*values, {"image": picture, "mask": painted}]).mask.getextrema() == (0, 255)
    assert parse([*values, {"image": picture, "mask": blank}]).mask.getextrema() == (128, 128)
    assert parse([*values, {"image": picture, "mask": None}]).mask.getextrema() == (128, 128)
    with pytest.raises(SettingsError, match="there is no mask"):
        parse([*values, None])
    photo = Image.new("RGBA", (4, 2), "orange")
    assert parse([*values, {"image": photo, "mask": painted}]).mask.getextrema() == (0, 255)
    with pytest.raises(SettingsError, match="nothing painted on it"):
        parse([*values, {"image": photo, "mask": blank}])
    assert parse([True, *DEFAULTS[1:], {"image": photo, "mask": blank}]).mask is not None  # it has no part


@pytest.mark.parametrize("empty", [None, ""])
def test_no_picture(parse, empty):
    assert parse([{"picture": empty}]).picture is None


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("positive_scal", 1.0, "did you mean positive_scale?"),
        ("colour", 1.0, "GET /ditail/v1/schema lists them"),
        ("inversion_prompt", "half a character: \ud800", "must be a text in Unicode"),
        ("source_checkpoint", "\ud800", "must be a text in Unicode"),
        ("positive_scale", "3", "must be a number"),
        ("positive_scale", True, "must be a number"),
        ("positive_scale", None, "must be a number"),
        ("positive_scale", 11, "from 0 to 10"),
        ("positive_scale", float("nan"), "from 0 to 10"),
        ("feature_ratio", -0.1, "from 0 to 1"),
        ("refinements", 1.5, "must be a whole number"),
        ("refinements", True, "must be a whole number"),
        ("inversion_rule", "Authors", "must be one of authors, warm start, fast"),
        ("source_checkpoint", 5, "must be a text"),
        ("source_checkpoint", None, "must be a text"),
        ("enabled", 1, "must be true or false"),
        ("mask", 5, "must be a picture file in base64"),
        ("mask", "not base64!", "is not valid base64"),
        ("region", "everywhere?", "must be one of everywhere, region mask, inpaint mask"),
        ("region", "region mask", "there is no mask"),
        ("feature_start", 1.5, "from 0 to 1"),
        ("attention_weight", -1, "from 0 to 1"),
        ("picture", 5, "must be a picture file in base64"),
        ("picture", "not base64!", "is not valid base64"),
        ("picture", "é" * 40, "is not valid base64"),
        ("mask", "\ud800", "is not valid base64"),
        ("picture", base64.b64encode(b"no picture").decode(), "is no picture"),
        ("picture", base64.b64encode(picture_bytes()[:40]).decode(), "is no picture"),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence(parse, field: str, value: object, says: str):
    with pytest.raises(SettingsError) as caught:
        parse([{field: value}])
    sentence = str(caught.value)
    assert caught.value.field == field
    assert field in sentence
    assert says in sentence
    assert sentence[-1] in ".?"
    assert "\n" not in sentence


def test_wrong_by_position(parse):
    with pytest.raises(SettingsError, match="positive_scale must be a number"):
        parse([True, "same as target", "automatic", "3"])


def test_overrides(parse):
    given = [{"positive_scale": 2.0, "inversion_prompt": "cat"}]
    changed = parse(given, {"positive_scale": 5.0})
    assert changed.settings == Settings(enabled=True, positive_scale=5.0, inversion_prompt="cat")
    assert parse(given, {"enabled": False}) is None
    assert parse(DEFAULTS, {"enabled": True}).settings == Settings(enabled=True)
    with pytest.raises(SettingsError, match="positive_scale"):
        parse(given, {"positive_scale": 50.0})


def test_a_preset_counts_where_a_request_says_nothing_of_its_own(parse):
    request = parse([{"preset": "generated content", "feature_ratio": 0.3}])
    assert request.settings.changed() == {
        "enabled": True,
        "layer_profile": "full",
        "feature_ratio": 0.3,
        "attention_ratio": 0.6,
    }


@pytest.mark.parametrize(("preset", "words"), [("cheese", "none named"), (3, "must be a text")])
def test_a_preset_that_is_not_there(parse, preset, words):
    with pytest.raises(SettingsError, match=words) as caught:
        parse([{"preset": preset}])
    assert caught.value.field == "preset"
