"""The one list of what cached results depend on: nothing may be left out, and every fact counts."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KINDS = ("trajectory", "trace", "features", "suggestion", "model", "cell")


@pytest.fixture
def keys(host: SimpleNamespace) -> ModuleType:
    table = SimpleNamespace(word_embeddings={"style": SimpleNamespace(shorthash="abcd")})
    host.fake(
        sd_hijack={"model_hijack": SimpleNamespace(embedding_db=table)},
        devices={"dtype_unet": torch.float16, "dtype_vae": torch.float32, "device": torch.device("cpu")},
    )
    return host.load("cache.keys")


def facts(keys: ModuleType, kind: str) -> dict[str, Any]:
    """Something for every fact that the module cannot find out itself."""
    return {name.replace(" ", "_"): f"some {name}" for name in keys.DEPENDS_ON[kind] if name not in keys._OWN}


@pytest.mark.parametrize("kind", KINDS)
def test_every_fact_counts(keys: ModuleType, kind: str):
    given_facts = facts(keys, kind)
    same = keys.key_of(kind, **given_facts)
    assert keys.key_of(kind, **given_facts) == same
    seen = {same}
    for name in given_facts:
        seen.add(keys.key_of(kind, **{**given_facts, name: "another"}))
    assert len(seen) == 1 + len(given_facts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fact_that_is_left_out_is_an_error(keys: ModuleType, kind: str):
    """The planted omission: whoever forgets one cannot make a key at all."""
    complete = facts(keys, kind)
    for name in complete:
        with pytest.raises(KeyError, match=kind):
            keys.key_of(kind, **{other: value for other, value in complete.items() if other != name})
    with pytest.raises(KeyError, match=kind):
        keys.key_of(kind, **complete, weather="fine")


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_host_computes_with_counts(keys: ModuleType, host: SimpleNamespace, kind: str):
    modules, wanted = host.modules, keys.DEPENDS_ON[kind]
    before = keys.key_of(kind, **facts(keys, kind))
    changes: dict[str, Any] = {
        "precision": lambda: setattr(modules.devices, "dtype_unet", torch.bfloat16),
        "vae precision": lambda: setattr(modules.shared.opts, "auto_vae_precision", False),
        "conditioning": lambda: setattr(modules.shared.opts, "extra_networks_default_multiplier", 0.5),
        "embeddings": lambda: modules.sd_hijack.model_hijack.embedding_db.word_embeddings.clear(),
        "version": lambda: setattr(keys, "METHOD", keys.METHOD + 1),
    }
    for name, change in changes.items():
        change()
        after = keys.key_of(kind, **facts(keys, kind))
        assert (after != before) is (name in wanted), name
        before = after


def test_there_are_no_other_kinds(keys: ModuleType):
    assert set(keys.DEPENDS_ON) == set(KINDS)


def test_kinds_do_not_meet(keys: ModuleType):
    assert len({keys.key_of(kind, **facts(keys, kind)) for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_computed_result_knows_the_version_and_the_precision(keys: ModuleType, kind: str):
    assert "precision" in keys.DEPENDS_ON[kind]
    assert "version" in keys.DEPENDS_ON[kind] or kind == "model"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=st.lists(st.text() | st.integers() | st.floats(allow_nan=False)), other=st.lists(st.text() | st.integers()))
def test_different_facts_never_share_a_key(keys: ModuleType, one: list[Any], other: list[Any]):
    common = facts(keys, "features")
    pair = [keys.key_of("features", **{**common, "layers": value}) for value in (one, other)]
    assert (pair[0] == pair[1]) is (repr(one) == repr(other))
