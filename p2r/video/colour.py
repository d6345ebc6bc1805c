"""Convert frames of HDR video (HDR10, HLG) to the SDR colours that models know."""

from __future__ import annotations

import numpy as np

# The codes of transfer functions in video files (ITU-T H.273).
HDR = {16: "PQ", 18: "HLG"}
_WHITE = 203.0  # cd/m², the reference white of HDR video (ITU-R BT.2408)
_PEAK = 1000.0  # cd/m², a usual mastering display
_KNEE = 0.3  # up to this level, tone mapping changes nothing
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)
_LUMA = np.array([0.2627, 0.678, 0.0593])  # of BT.2020


def to_sdr(pixels: np.ndarray, transfer: int, wide: bool) -> np.ndarray:
    """Return uint8 RGB (H, W, 3) of HDR frames in uint16 RGB.

    `transfer` is a key of `HDR`. `wide`: the colours are those of BT.2020, else of BT.709.
    """
    signal = pixels.astype(np.float64) / 65535
    light = (_pq_light if HDR[transfer] == "PQ" else _hlg_light)(signal) / _WHITE
    if wide:
        light = light @ _TO_BT709.T
    light = np.clip(light, 0, None)
    brightest = light.max(axis=-1, keepdims=True)
    mapped = light * (_compress(brightest) / np.maximum(brightest, 1e-9))
    return (np.clip(mapped, 0, 1) ** (1 / 2.4) * 255).round().astype(np.uint8)


def _pq_light(signal: np.ndarray) -> np.ndarray:
    """Return cd/m² of a PQ signal in 0 … 1 (SMPTE ST 2084)."""
    power = signal ** (1 / 78.84375)
    share = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    return 10_000 * share ** (1 / 0.1593017578125)


def _hlg_light(signal: np.ndarray) -> np.ndarray:
    """Return cd/m² of an HLG signal in 0 … 1 on a display of 1,000 cd/m² (ITU-R BT.2100)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return _PEAK * scene * np.maximum(scene @ _LUMA, 1e-9)[..., None] ** 0.2


def _compress(level: np.ndarray) -> np.ndarray:
    """Map levels up to the peak into 0 … 1: a straight line up to the knee, then a Möbius curve."""
    peak = _PEAK / _WHITE
    shift = -(_KNEE**2) * (peak - 1) / (_KNEE**2 - 2 * _KNEE + peak)
    scale = (_KNEE**2 - 2 * _KNEE * peak + peak) / (peak - 1)
    factor = (scale**2 + 2 * scale * _KNEE + _KNEE**2) / (scale - shift)
    return np.where(level <= _KNEE, level, factor * (level + shift) / (level + scale))
