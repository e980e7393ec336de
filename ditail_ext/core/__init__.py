"""The method, in torch alone: noise levels, inversion, trajectory, injection.

A host brings one callable that estimates noise (:class:`PredictNoise`) and one UNet module to hook.
"""

from .bank import FeatureBank
from .conditioning import Condition, equal_lengths, expand_rows, join_rows, mix
from .injection import Injection
from .inversion import InversionRule, invert
from .mixing import check_fit, interpolate, mixed_weights
from .prediction import Prediction, PredictNoise, ldm_noise_predictor, to_epsilon
from .recorded import RecordedLatent, RecordedRun
from .region import Region
from .sampling import Prompts, sample
from .schedule import Level, NoiseSchedule, Window, move, ve_to_vp, vp_to_ve
from .shelf import BankShelf, BankSlot
from .shortcuts import Shortcut
from .sites import PROFILE_NAMES, LayerProfile, Site, SiteKind, detect_family, find_sites
from .trajectory import SourceTrajectory

__all__ = [
    "PROFILE_NAMES",
    "BankShelf",
    "BankSlot",
    "Condition",
    "FeatureBank",
    "Injection",
    "InversionRule",
    "LayerProfile",
    "Level",
    "NoiseSchedule",
    "PredictNoise",
    "Prediction",
    "Prompts",
    "RecordedLatent",
    "RecordedRun",
    "Region",
    "Shortcut",
    "Site",
    "SiteKind",
    "SourceTrajectory",
    "Window",
    "check_fit",
    "detect_family",
    "equal_lengths",
    "expand_rows",
    "find_sites",
    "interpolate",
    "invert",
    "join_rows",
    "ldm_noise_predictor",
    "mix",
    "mixed_weights",
    "move",
    "sample",
    "to_epsilon",
    "ve_to_vp",
    "vp_to_ve",
]
