"""Facial actions by name and frequency: the tables that `engine.training.generator.happenings` draws from."""

ME_UNITS = {
    "4": 708, "1": 304, "2": 280, "14": 277, "7": 252, "12": 176, "6": 60,
    "9": 40, "10": 50, "15": 60, "17": 60, "20": 30, "24": 50, "5": 50,
}  # fmt: skip
"""Action units of micro-expressions with their counts over six data sets (the rarer ones rounded)."""

PAIRS = (("1", "2"), ("4", "7"), ("6", "12"), ("1", "4"), ("15", "17"), ("9", "10"))
"""Units that occur together more often than by chance."""

UNIT_REGION = {
    "1": 0, "2": 0, "4": 0, "5": 1, "7": 1, "6": 2, "9": 2,
    "10": 3, "12": 3, "14": 3, "15": 3, "17": 3, "20": 3, "24": 3,
}  # fmt: skip
"""Index into `engine.spec.REGIONS`."""

MIDLINE = ("17",)
"""Units that have no sides."""

SPEECH_SHAPES = ("funnel", "pucker", "stretch", "lips_part", "press")
MACRO_SHAPES = (
    "smile", "smile", "brow_up", "brow_up_L", "brow_up_R", "brow_down", "frown", "sneer", "stretch", "press", "pucker",
    "shrug", "mouth_left", "mouth_right", "dimple_L", "dimple_R", "squint_L", "squint_R", "wide_L", "wide_R",
)  # fmt: skip
"""Large actions of `engine.training.generator.actors`; a smile is the most frequent."""
RESTLESS_SHAPES = (
    "smile_L", "smile_R", "brow_up", "brow_up_L", "brow_up_R", "brow_down", "sneer", "stretch", "press", "pucker",
    "shrug", "mouth_left", "mouth_right", "squint_L", "squint_R", "wide_L", "wide_R", "jaw_open", "lips_part",
    "funnel", "frown", "dimple_L", "dimple_R",
)  # fmt: skip
"""Large actions that vary on a face that never rests."""

PUSH_AT = (
    (105, 0), (107, 0), (66, 0), (70, 0), (9, 0), (159, 1), (33, 1), (133, 1), (50, 2), (205, 2), (36, 2), (129, 2),
    (61, 3), (17, 3), (0, 3), (37, 3), (84, 3), (199, 3), (152, 3),
)  # fmt: skip
"""Landmarks (right half and middle of the face) where a push may lie, with their region."""

MIRROR = {
    105: 334, 107: 336, 66: 296, 70: 300, 9: 9, 159: 386, 33: 263, 133: 362, 50: 280, 205: 425, 36: 266, 129: 358,
    61: 291, 17: 17, 0: 0, 37: 267, 84: 314, 199: 199, 152: 152,
}  # fmt: skip
"""The same place on the other half."""
