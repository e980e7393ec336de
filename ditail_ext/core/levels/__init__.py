"""Noise levels, what a UNet says at them, and the conditions that it is told."""

from .conditioning import Condition, equal_lengths, expand_rows, join_rows, map_tensors, mix
from .prediction import Levels, Prediction, PredictNoise, ldm_noise_predictor, timesteps_of, to_epsilon
from .schedule import Level, NoiseSchedule, Window, move, require_rising, ve_to_vp, vp_to_ve

__all__ = [
    "Condition",
    "Level",
    "Levels",
    "NoiseSchedule",
    "PredictNoise",
    "Prediction",
    "Window",
    "equal_lengths",
    "expand_rows",
    "join_rows",
    "ldm_noise_predictor",
    "map_tensors",
    "mix",
    "move",
    "require_rising",
    "timesteps_of",
    "to_epsilon",
    "ve_to_vp",
    "vp_to_ve",
]
