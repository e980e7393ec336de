"""The panel, the arguments, the schema, the infotext, the plot's axes and the options say what the table says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ditail_ext.errors import SettingsError
from ditail_ext.settings import SAME_AS_TARGET_SHOWN, TABLE, Settings


def panel(host: SimpleNamespace, img2img: bool):
    return host.load("panel.layout").build_panel(img2img, lambda name: f"script_{name}")


@pytest.mark.parametrize("img2img", [True, False])
def test_the_panel_has_one_control_a_setting_in_the_tables_order(host: SimpleNamespace, img2img: bool):
    components = panel(host, img2img).components
    names = [*TABLE, "mask"] if img2img else [*TABLE, "mask", "picture"]
    assert [component.elem_id for component in components] == [f"script_{name}" for name in names]
    shown = host.load("panel.controls").in_panel
    for setting, control in zip(TABLE.values(), components, strict=False):
        assert control.value == shown(setting.default)
        assert type(control.value) is setting.kind
        assert control.label == setting.label
        if setting.name != "enabled":
            assert control.info == setting.help
        if setting.minimum is not None:
            assert (control.minimum, control.maximum, control.step) == (setting.minimum, setting.maximum, setting.step)
        if setting.choices is not None:
            mask = ("inpaint mask", "outside inpaint mask")
            assert [value for _, value in control.choices] == [
                choice for choice in setting.choices if img2img or choice not in mask
            ]


def test_labels_are_distinct(host: SimpleNamespace):
    """The host keeps a control's default in ui-config.json under its label."""
    labels = [component.label for component in panel(host, False).components]
    assert len(set(labels)) == len(labels)


def test_the_panels_defaults_ask_for_nothing(host: SimpleNamespace):
    values = [component.value for component in panel(host, False).components]
    assert host.load("request.arguments").parse_request(values) is None


def test_building_a_panel_leaves_nothing_behind(host: SimpleNamespace):
    first, second = panel(host, True), panel(host, True)
    assert not {id(control) for control in first.components} & {id(control) for control in second.components}
    assert [vars(control).keys() for control in first.components] == [vars(c).keys() for c in second.components]


def test_the_lists_can_be_refreshed(host: SimpleNamespace):
    panel(host, True)
    (checkpoint, _, choices, _), (mix, _, mixes, _), *further, (vae, _, vaes, _) = host.refreshes
    assert [one.choices for one, *_ in further] == [mix.choices] * 3
    assert checkpoint.choices == choices()["choices"] == [SAME_AS_TARGET_SHOWN, "A.ckpt", "b.safetensors"]
    assert vae.choices == vaes()["choices"] == ["automatic", "sharp.vae.pt"]
    assert mix.choices == mixes()["choices"] == ["none", "A.ckpt", "b.safetensors"]


@pytest.mark.parametrize("img2img", [True, False])
def test_every_setting_pastes(host: SimpleNamespace, img2img: bool):
    built = panel(host, img2img)
    assert [field.component for field in built.infotext_fields] == built.components[: len(TABLE)]
    assert all(field.function for field in built.infotext_fields)


def test_infotext_keys_are_distinct_and_parse(host: SimpleNamespace):
    keys = [setting.infotext for setting in TABLE.values()]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith("Ditail") and ":" not in key and "," not in key for key in keys)


def test_the_schema_describes_every_argument(host: SimpleNamespace):
    schema = host.load("panel.api").schema()
    arguments = schema["arguments"]
    assert [argument["name"] for argument in arguments] == [*TABLE, "mask", "picture"]
    assert not any("position" in argument for argument in arguments), "a new row must not move anybody's argument"
    assert [argument.get("only") for argument in arguments[-2:]] == [None, "txt2img"]
    types = {float: "number", int: "integer", bool: "boolean", str: "string"}
    for setting, argument in zip(TABLE.values(), arguments, strict=False):
        assert argument["type"] == types[setting.kind]
        for key in ("default", "label", "help", "infotext", "minimum", "maximum", "step"):
            assert argument.get(key) == getattr(setting, key)
        if setting.choices is not None:
            assert argument["choices"] == list(setting.choices)
    by_name = {argument["name"]: argument for argument in arguments}
    assert by_name["source_checkpoint"]["choices"] == ["same as target", "A.ckpt", "b.safetensors"]
    assert by_name["mix_checkpoint"]["choices"] == ["none", "A.ckpt", "b.safetensors"]


def axes(host: SimpleNamespace) -> dict[str, object]:
    xyz = host.load("panel.xyz")
    xyz.add_axes()
    xyz.add_axes()  # Reload UI
    options = host.modules.scripts.scripts_data[0].module.axis_options
    assert len(options) == 2 + len(TABLE)
    by_label = {option.label: option for option in options}
    return {name: by_label[xyz.axis_label(setting)] for name, setting in TABLE.items()}


def test_every_setting_is_an_axis(host: SimpleNamespace):
    for name, axis in axes(host).items():
        p = SimpleNamespace()
        text = axis.choices()[0] if axis.choices else str(TABLE[name].default)
        value = axis.type(text)
        axis.confirm(p, [value])
        axis.apply(p, value, [value])
        assert p.ditail_overrides == {"enabled": True, name: value}
        Settings.from_mapping(p.ditail_overrides)


def test_axes_of_one_cell_add_up_and_cells_stay_apart(host: SimpleNamespace):
    made = axes(host)
    p = SimpleNamespace()
    made["positive_scale"].apply(p, 2.0, [])
    cell = SimpleNamespace(**vars(p))
    made["feature_ratio"].apply(cell, 0.5, [])
    assert cell.ditail_overrides == {"enabled": True, "positive_scale": 2.0, "feature_ratio": 0.5}
    assert p.ditail_overrides == {"enabled": True, "positive_scale": 2.0}


@pytest.mark.parametrize("order", [("enabled", "feature_ratio"), ("feature_ratio", "enabled")])
def test_an_axis_switches_ditail_on_unless_another_says_otherwise(host: SimpleNamespace, order: tuple[str, str]):
    made, p = axes(host), SimpleNamespace()
    for name in order:
        made[name].apply(p, {"enabled": False, "feature_ratio": 0.5}[name], [])
    assert p.ditail_overrides == {"enabled": False, "feature_ratio": 0.5}


@pytest.mark.parametrize("order", [("preset", "feature_ratio"), ("feature_ratio", "preset")])
def test_the_preset_axis_counts_less_than_one_of_a_setting(host: SimpleNamespace, order: tuple[str, str]):
    made, p = axes(host), SimpleNamespace()
    options = host.modules.scripts.scripts_data[0].module.axis_options
    made["preset"] = next(option for option in options if option.label == "[Ditail] Preset")
    for name in order:
        made[name].apply(p, {"preset": "generated content", "feature_ratio": 0.5}[name], [])
    changed = Settings.from_mapping(p.ditail_overrides).changed()
    assert changed == {"enabled": True, "layer_profile": "full", "attention_ratio": 0.6, "feature_ratio": 0.5}
    assert "balanced" in made["preset"].choices()
    with pytest.raises(SettingsError, match="none named"):
        made["preset"].confirm(p, ["balanced", "balance"])


def test_the_source_is_the_slowest_axis_after_the_hosts_checkpoint(host: SimpleNamespace):
    """Whose cost is 1: with the target outermost, kept inversions need no further load of their sources."""
    made = axes(host)
    assert made["source_vae"].cost < made["source_checkpoint"].cost == max(axis.cost for axis in made.values()) < 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("positive_scale", 11.0), ("source_checkpoint", "c"), ("layer_profile", "x"), ("mix_checkpoint", "c")],
)
def test_an_axis_refuses_before_the_first_picture(host: SimpleNamespace, name: str, value: object):
    with pytest.raises(SettingsError, match=name):
        axes(host)[name].confirm(None, [value])


def test_without_the_plot_script_there_are_no_axes(host: SimpleNamespace):
    host.modules.scripts.scripts_data.clear()
    host.load("panel.xyz").add_axes()


def test_the_options(host: SimpleNamespace):
    options = host.load("options")
    options.add_options()
    info = host.modules.shared.opts.data_labels[options.CACHE_MB]
    assert (info.default, info.section) == (256, ("ditail", "Ditail"))
    assert options.cache_bytes() == 256 * 2**20
    host.modules.shared.opts.ditail_cache_mb = 3
    assert options.cache_bytes() == 3 * 2**20
    assert host.modules.shared.opts.data_labels[options.GRID_MB].default * 2**20 == options.grid_bytes()
    host.modules.shared.opts.ditail_grid_mb = 3
    assert options.grid_bytes() == 3 * 2**20


def routes(host: SimpleNamespace, host_routes: list) -> list[tuple]:
    added = []
    app = SimpleNamespace(routes=host_routes, add_api_route=lambda path, call, **more: added.append((path, more)))
    host.load("panel.api").add_routes(None, app)
    return added


def test_the_routes_demand_what_the_hosts_do(host: SimpleNamespace):
    guard = object()
    added = routes(host, [SimpleNamespace(path="/sdapi/v1/options", dependencies=[guard])])
    assert [path for path, _ in added] == ["/ditail/v1/schema", "/ditail/v1/cache", "/ditail/v1/cache/clear"]
    assert all(more["dependencies"] == [guard] for _, more in added)


def test_without_the_hosts_api_there_are_no_routes(host: SimpleNamespace):
    assert routes(host, [SimpleNamespace(path="/")]) == []


def test_a_preset_that_was_just_chosen_is_not_unsaid(host: SimpleNamespace):
    """Its settings come a moment later; until then those of the one before are there."""
    own = host.load("panel.own_presets")
    defaults = {name: setting.default for name, setting in TABLE.items()}
    generated = {**defaults, "layer_profile": "full", "feature_ratio": 0.6, "attention_ratio": 0.6}
    assert own.listed("balanced", generated) == "as set below"
    assert own.listed("as set below", generated) == "generated content"
    assert own.listed("generated content", generated) == "generated content"
    assert own.listed("generated content", {**generated, "feature_ratio": 0.3}) == "as set below"


def test_an_answer_has_its_question_s_number(host: SimpleNamespace):
    """The page asks again what was dropped; without its script nobody numbers anything."""
    numbered = host.load("panel.layout").numbered
    assert numbered("<p>x</p>", {"number": 7}) == '<div data-number="7"><p>x</p></div>'
    assert numbered("<p>x</p>", {}) == numbered("<p>x</p>", {"number": "7'"}) == "<p>x</p>"
