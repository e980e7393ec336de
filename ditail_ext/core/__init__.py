"""The method, in torch alone: noise levels, inversion, trajectory, injection.

A host brings one callable that estimates noise (:class:`PredictNoise`) and one UNet module to hook.
"""

from .ahead import RunSource, SourcePass, SourceRecorder, rows_worth_a_call
from .bank import FeatureBank
from .conditioning import Condition, equal_lengths, expand_rows, join_rows, mix
from .gpu_memory import free_bytes
from .host_memory import HostBank, HostMemory
from .injection import Injection
from .inversion import InversionRule, invert
from .mixing import check_fit, interpolate, mixed_weights
from .offload import OffloadingShelf
from .prediction import Levels, Prediction, PredictNoise, ldm_noise_predictor, timesteps_of, to_epsilon
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
    "HostBank",
    "HostMemory",
    "Injection",
    "InversionRule",
    "LayerProfile",
    "Level",
    "Levels",
    "NoiseSchedule",
    "OffloadingShelf",
    "PredictNoise",
    "Prediction",
    "Prompts",
    "RecordedLatent",
    "RecordedRun",
    "Region",
    "RunSource",
    "Shortcut",
    "Site",
    "SiteKind",
    "SourcePass",
    "SourceRecorder",
    "SourceTrajectory",
    "Window",
    "check_fit",
    "detect_family",
    "equal_lengths",
    "expand_rows",
    "find_sites",
    "free_bytes",
    "interpolate",
    "invert",
    "join_rows",
    "ldm_noise_predictor",
    "mix",
    "mixed_weights",
    "move",
    "rows_worth_a_call",
    "sample",
    "timesteps_of",
    "to_epsilon",
    "ve_to_vp",
    "vp_to_ve",
]
