"""Facts from the datasets' own tools that are not in their folders."""

from __future__ import annotations

from types import MappingProxyType

__all__ = ["LASOTEXT_CLASSES", "LASOT_TEST", "OTB_OMITTED", "OTB_RANGES", "UAV_STARTS"]

OTB_RANGES = MappingProxyType(
    {
        "BlurCar1": (247, 988),
        "BlurCar3": (3, 359),
        "BlurCar4": (18, 397),
        "David": (300, 770),
        "Diving": (1, 215),
        "Football1": (1, 74),
        "Freeman3": (1, 460),
        "Freeman4": (1, 283),
    }
)
"""First and last image, by number, where a folder holds more images than boxes."""

OTB_OMITTED = MappingProxyType({"Tiger1": 5})
"""Frames at the start that the release leaves out."""

UAV_STARTS = MappingProxyType(
    {
        "bird1_2": 775,
        "bird1_3": 1573,
        "car16_2": 415,
        "car1_2": 751,
        "car1_3": 1627,
        "car6_2": 487,
        "car6_3": 1807,
        "car6_4": 2953,
        "car6_5": 3925,
        "car8_2": 1357,
        "group1_2": 1333,
        "group1_3": 2515,
        "group1_4": 3925,
        "group2_2": 907,
        "group2_3": 1771,
        "group3_2": 1567,
        "group3_3": 2827,
        "group3_4": 4369,
        "person12_2": 601,
        "person14_2": 847,
        "person14_3": 1813,
        "person17_2": 1501,
        "person19_2": 1243,
        "person19_3": 2791,
        "person2_2": 1189,
        "person4_2": 1501,
        "person5_2": 877,
        "person7_2": 1249,
        "person8_2": 1075,
        "truck4_2": 577,
        "uav1_2": 1555,
        "uav1_3": 2473,
    }
)
"""The first image, by number, of targets that do not start with their video."""

LASOTEXT_CLASSES = frozenset(
    {
        "atv",
        "badminton",
        "cosplay",
        "dancingshoe",
        "footbag",
        "frisbee",
        "jianzi",
        "lantern",
        "misc",
        "opossum",
        "paddle",
        "raccoon",
        "rhino",
        "skatingshoe",
        "wingsuit",
    }
)

_LASOT_TEST = """
airplane 1 9 13 15
basketball 1 6 7 11
bear 2 4 6 17
bicycle 2 7 9 18
bird 2 3 15 17
boat 3 4 12 17
book 3 10 11 19
bottle 1 12 14 18
bus 2 5 17 19
car 2 6 9 17
cat 1 3 18 20
cattle 2 7 12 13
chameleon 3 6 11 20
coin 3 6 7 18
crab 3 6 12 18
crocodile 3 4 10 14
cup 1 4 7 17
deer 4 8 10 14
dog 1 7 15 19
drone 2 7 13 15
electricfan 1 10 18 20
elephant 1 12 16 18
flag 2 3 5 9
fox 2 3 5 20
frog 3 4 9 20
gametarget 1 2 7 13
gecko 1 5 16 19
giraffe 2 10 13 15
goldfish 3 7 8 10
gorilla 4 6 9 13
guitar 3 8 10 16
hand 2 3 9 16
hat 1 2 5 18
helmet 5 11 13 19
hippo 1 7 9 20
horse 1 4 12 15
kangaroo 2 5 11 14
kite 4 6 10 15
leopard 1 7 16 20
licenseplate 6 12 13 15
lion 1 5 12 20
lizard 1 3 6 13
microphone 2 6 14 16
monkey 3 4 9 17
motorcycle 1 3 9 18
mouse 1 8 9 17
person 1 5 10 12
pig 2 10 13 18
pool 3 7 12 15
rabbit 10 13 17 19
racing 10 15 16 20
robot 1 5 8 19
rubicCube 1 6 14 19
sepia 6 8 13 16
shark 2 3 5 6
sheep 3 5 7 9
skateboard 3 8 16 19
spider 14 16 18 20
squirrel 8 11 13 19
surfboard 4 5 8 12
swing 10 14 17 20
tank 6 9 14 16
tiger 4 6 12 18
train 1 7 11 20
truck 3 6 7 16
turtle 5 8 9 16
umbrella 2 9 17 19
volleyball 1 13 18 19
yoyo 7 15 17 19
zebra 10 14 16 17
"""


def _spell_out(table: str) -> frozenset[str]:
    rows = (line.split() for line in table.strip().splitlines())
    return frozenset(f"{name}-{number}" for name, *numbers in rows for number in numbers)


LASOT_TEST = _spell_out(_LASOT_TEST)
"""The 280 sequences on which LaSOT's figures are published."""
