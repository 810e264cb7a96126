"""Every object a scene can show, with its natural measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ffr_core.dataset.drawing.canvas import Pen
from ffr_core.dataset.drawing.objects import (
    animals,
    buildings,
    food,
    furniture,
    home,
    leisure,
    nature,
    sky,
    vehicles,
    wear,
)
from ffr_core.dataset.drawing.palette import RGB
from ffr_core.dataset.drawing.specs import ObjectName

Layer = Literal["sky", "wall", "floor", "ground", "small", "air"]


@dataclass(frozen=True, slots=True)
class Art:
    """How one object is drawn and where it belongs."""

    draw: Callable[[Pen, RGB], None]
    """Draws it around the pen's origin, its foot."""

    width: float
    """In the units of its pen."""

    height: float
    """In the units of its pen."""

    layer: Layer = "ground"
    """Sky and wall things are drawn first, air things last, all without shadow; floor things lie
    flat; small things may stand upon ground things."""

    scale: float = 1.0
    """Pixels of the picture per pen unit at size 1; it keeps the objects in proportion, yet small
    ones are larger than life so that they can be recognized."""


OBJECTS: dict[ObjectName, Art] = {
    "bicycle": Art(vehicles.bicycle, 190, 124, scale=0.95),
    "car": Art(vehicles.car, 224, 98, scale=1.15),
    "bus": Art(vehicles.bus, 280, 130, scale=1.3),
    "boat": Art(vehicles.boat, 180, 190, "floor"),
    "scooter": Art(vehicles.scooter, 164, 132, scale=0.95),
    "train": Art(vehicles.train, 360, 116, scale=1.3),
    "plane": Art(vehicles.plane, 232, 100, "sky"),
    "dog": Art(animals.dog, 190, 132, "small", scale=0.74),
    "cat": Art(animals.cat, 112, 138, "small", scale=0.7),
    "bird": Art(animals.bird, 156, 100, "small", scale=0.62),
    "fish": Art(animals.fish, 152, 80, "small", scale=0.75),
    "person": Art(animals.person, 96, 208, scale=0.85),
    "snowman": Art(animals.snowman, 150, 196, scale=0.85),
    "tree": Art(nature.tree, 180, 232, scale=1.1),
    "flower": Art(nature.flower, 80, 122, "small", scale=0.75),
    "plant": Art(nature.plant, 116, 142, "small", scale=0.9),
    "campfire": Art(nature.campfire, 130, 128, scale=0.8),
    "sun": Art(sky.sun, 116, 116, "sky"),
    "moon": Art(sky.moon, 80, 80, "sky"),
    "kite": Art(leisure.kite, 88, 142, "air"),
    "balloon": Art(leisure.balloon, 70, 160, "air", scale=0.8),
    "ball": Art(leisure.ball, 72, 72, "small", scale=0.85),
    "gift": Art(leisure.gift, 96, 104, "small", scale=0.8),
    "guitar": Art(leisure.guitar, 88, 206, "small", scale=0.75),
    "book": Art(leisure.book, 80, 98, "small", scale=0.72),
    "phone": Art(leisure.phone, 58, 110, "small", scale=0.65),
    "laptop": Art(leisure.laptop, 172, 102, "small", scale=0.75),
    "clock": Art(leisure.clock, 96, 96, "small", scale=0.8),
    "house": Art(buildings.house, 244, 215, scale=1.2),
    "bridge": Art(buildings.bridge, 380, 132, "floor"),
    "tent": Art(buildings.tent, 236, 122),
    "fence": Art(buildings.fence, 240, 86),
    "cake": Art(food.cake, 132, 116, "small", scale=0.9),
    "cup": Art(food.cup, 92, 66, "small", scale=0.75),
    "bowl": Art(food.bowl, 120, 88, "small", scale=0.75),
    "pizza": Art(food.pizza, 128, 128, "small", scale=0.9),
    "bottle": Art(food.bottle, 46, 128, "small", scale=0.75),
    "bread": Art(food.bread, 156, 66, "small", scale=0.72),
    "apple": Art(food.apple, 84, 86, "small", scale=0.65),
    "chair": Art(furniture.chair, 90, 144),
    "table": Art(furniture.table, 232, 104),
    "sofa": Art(furniture.sofa, 232, 112),
    "lamp": Art(furniture.lamp, 84, 166, "small"),
    "shelf": Art(furniture.shelf, 124, 178),
    "bed": Art(furniture.bed, 256, 104, scale=1.1),
    "rug": Art(furniture.rug, 250, 44, "floor"),
    "window": Art(home.window, 132, 130, "wall"),
    "door": Art(home.door, 104, 196, "wall", scale=1.05),
    "picture": Art(home.picture, 128, 94, "small", scale=0.9),
    "fridge": Art(home.fridge, 108, 199),
    "washing_machine": Art(home.washing_machine, 116, 132),
    "box": Art(home.box, 116, 84, "small", scale=0.9),
    "ladder": Art(home.ladder, 144, 190),
    "key": Art(home.key, 170, 60, "small", scale=0.55),
    "umbrella": Art(wear.umbrella, 168, 168, "small"),
    "suitcase": Art(wear.suitcase, 88, 160, "small", scale=0.75),
    "shoe": Art(wear.shoe, 146, 64, "small", scale=0.62),
    "shirt": Art(wear.shirt, 172, 130, "small", scale=0.75),
    "dress": Art(wear.dress, 128, 158, "small", scale=0.85),
    "bag": Art(wear.bag, 108, 116, "small", scale=0.72),
    "backpack": Art(wear.backpack, 124, 138, "small", scale=0.75),
    "hat": Art(wear.hat, 152, 70, "small", scale=0.62),
}
