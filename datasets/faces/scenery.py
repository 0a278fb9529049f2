"""The places behind a person that are drawn: houses, shelves, leaves, rooms and posters, as marks on a canvas.

A place is laid out in units of the frame, so that the same random numbers draw it at every size, in a few hundred marks
(canvas.py). Colours are reflectances; light, shadows and textures come later, in `backdrop`.
"""

from math import cos, degrees, sin

import numpy as np
from numpy.typing import NDArray

from datasets.faces.canvas import Canvas


def place(rng: np.random.Generator, palette: NDArray[np.float64]) -> Canvas:
    """One of the five places, in the colours of `palette`, linear RGB reflectances float64 [12, 3]."""
    canvas = Canvas()
    lay_out = (_houses, _shelves, _leaves, _room, _posters)[rng.integers(5)]
    lay_out(rng, palette, canvas)
    return canvas


def _houses(rng: np.random.Generator, palette: NDArray[np.float64], canvas: Canvas) -> None:
    horizon = rng.uniform(0.6, 0.9)
    sky = np.array([0.55, 0.65, 0.8]) * rng.uniform(0.5, 1.2) if rng.random() < 0.7 else np.full(3, 0.7)
    canvas.box(0, 0, 1, 1, sky)
    for depth in range(3):
        x = rng.uniform(-0.2, 0)
        while x < 1:
            width, top = rng.uniform(0.14, 0.5), rng.uniform(0.02, 0.3) + 0.12 * (2 - depth) * rng.uniform(0, 1)
            wall = palette[rng.integers(12)] * (0.7 + 0.15 * depth) + (2 - depth) * 0.06
            canvas.box(x, top, x + width, horizon, wall)
            if rng.random() < 0.4:
                canvas.shape([(x - 0.01, top), (x + width / 2, top - 0.1), (x + width + 0.01, top)], wall * 0.5)
            else:
                canvas.box(x - 0.006, top - 0.012, x + width + 0.006, top + 0.012, wall * 0.7)
            columns, rows = int(rng.integers(2, 5)), int(rng.integers(3, 6))
            glass, frame = rng.choice([wall * 0.25, sky * 0.5, wall * 1.5]), wall * rng.choice([0.55, 1.5])
            cell, floor = width / columns, (horizon - top) / rows
            for n, lit in enumerate(rng.random(columns * rows).tolist()):
                left, high = x + cell * (n % columns + 0.25), top + floor * (n // columns + 0.22)
                right, low = left + 0.5 * cell, high + 0.55 * floor
                canvas.box(left - 0.005, high - 0.005, right + 0.005, low + 0.01, frame)
                canvas.box(left, high, right, low, glass if lit < 0.85 else (0.8, 0.7, 0.45))
                if depth == 2:
                    canvas.line((left + right) / 2, high, (left + right) / 2, low, 0.005, frame)
            if depth == 2 and rng.random() < 0.5:
                sign = palette[rng.integers(12)]
                canvas.box(x, horizon - 0.14, x + width, horizon - 0.07, sign)
                canvas.words(rng, x + 0.03, horizon - 0.125, width - 0.06, 0.04, sign * 0.2 + 0.5 * (sign.mean() < 0.3))
            x += width + rng.uniform(0, 0.3) * (depth > 0)
    canvas.box(0, horizon, 1, 1, np.full(3, rng.uniform(0.08, 0.3)))
    canvas.line(0, horizon + 0.03, 1, horizon + 0.03, 0.012, np.full(3, rng.uniform(0.2, 0.5)))
    for x, y, tall, hue in rng.random((int(rng.integers(0, 5)), 4)).tolist():
        canvas.line(x, horizon + 0.05, x, 0.5 * tall * horizon, 0.008 + 0.01 * y, (0.06, 0.06, 0.06))
        canvas.line(0, 0.1 + 0.3 * y, 1, 0.1 + 0.3 * tall, 0.004, (0.05, 0.05, 0.05))
        car = palette[int(12 * hue)]
        canvas.oval(x, horizon + 0.02, 0.1, 0.05, 0, car * 0.6)
        canvas.box(x - 0.16, horizon, x + 0.16, horizon + 0.07, car)
        for wheel in (-0.1, 0.1):
            canvas.oval(x + wheel, horizon + 0.07, 0.03, 0.03, 0, (0.02, 0.02, 0.02))


def _shelves(rng: np.random.Generator, palette: NDArray[np.float64], canvas: Canvas) -> None:
    wood, rows = palette[rng.integers(12)] * np.array([1, 0.8, 0.6]), int(rng.integers(3, 6))
    canvas.box(0, 0, 1, 1, wood * 0.35)
    for row in range(rows + 1):
        board, tall = (row + 0.4) / rows, 1 / rows
        x = 0.0
        while x < 1:
            width, kind = rng.uniform(0.02, 0.065), rng.random()
            high, color = tall * rng.uniform(0.5, 0.85), palette[rng.integers(12)]
            if kind < 0.8:
                lean = rng.uniform(-0.25, 0.25) * high * (kind < 0.12)
                spine = [(x, board), (x + lean, board - high), (x + width + lean, board - high), (x + width, board)]
                canvas.shape(spine, color)
                canvas.line(x, board, x + lean, board - high, 0.004, color * 0.4)
                middle = x + width / 2 + lean / 2
                canvas.line(middle, board - 0.75 * high, middle, board - 0.4 * high, 0.3 * width, color * 0.3 + 0.35)
            elif kind < 0.92:
                radius = min(0.06, 0.35 * tall)
                canvas.oval(x + radius, board - radius, radius, radius, 0, color)
                canvas.oval(x + 0.8 * radius, board - 1.3 * radius, 0.3 * radius, 0.25 * radius, 0, color * 0.6 + 0.35)
                width = 2 * radius
            x += width + 0.003
        canvas.box(0, board, 1, board + 0.025, wood)
        canvas.box(0, board + 0.025, 1, board + 0.04, wood * 0.25)
    for x in rng.uniform(0, 1, int(rng.integers(1, 4))).tolist():
        canvas.box(x, 0, x + 0.025, 1, wood * 0.85)


def _leaves(rng: np.random.Generator, palette: NDArray[np.float64], canvas: Canvas) -> None:
    sun = rng.uniform(0.4, 1)
    green = np.array([rng.uniform(0.08, 0.28), rng.uniform(0.2, 0.35), rng.uniform(0.02, 0.1)])
    canvas.box(0, 0, 1, 1, green * 0.3)
    for x, y, size in rng.random((36, 3)).tolist():  # sky between the leaves
        canvas.oval(x, 0.6 * y, 0.01 + 0.07 * size * y, 0.01 + 0.05 * size, 90 * x, np.array([0.6, 0.7, 0.8]) * sun)
    for x, lean, width in rng.random((int(rng.integers(1, 5)), 3)).tolist():
        bark = np.array([0.12, 0.09, 0.06]) * (0.5 + width)
        canvas.line(x, 1, x + 0.3 * (lean - 0.5), 0, 0.015 + 0.06 * width, bark)
        for side in (-0.4, 0.3):
            canvas.line(x + 0.15 * (lean - 0.5), 0.5, x + side, 0.2 * lean, 0.012, bark)
    leaves = rng.random((190, 6))
    for n, (x, y, size, turn, shade, hue) in enumerate(leaves.tolist()):
        near = n / len(leaves)
        long = (0.02 + 0.05 * size) * (0.5 + 1.2 * near)
        color = green * (0.3 + 1.3 * near * shade) * np.array([0.6 + 0.8 * hue, 1, 1.2 - 0.6 * hue])
        x, y, wide = x * 1.1 - 0.05, y * 1.1 - 0.05, 0.2 + 0.3 * hue
        dx, dy = long * cos(6.3 * turn), long * sin(6.3 * turn)
        if n % 3:
            flank, back = (x - 0.2 * dx - wide * dy, y - 0.2 * dy + wide * dx), (x - dx, y - dy)
            canvas.shape([(x + dx, y + dy), flank, back, (x - 0.2 * dx + wide * dy, y - 0.2 * dy - wide * dx)], color)
        else:
            canvas.oval(x, y, long, long * wide, 360 * turn, color)
        if n % 2:  # the vein
            canvas.line(x - dx, y - dy, x + 0.6 * dx, y + 0.6 * dy, 0.003, color * 1.5)
    for x, y, size, hue in rng.random((int(rng.integers(0, 12)), 4)).tolist():  # flowers
        canvas.oval(x, y, 0.01 + 0.02 * size, 0.01 + 0.02 * size, 0, palette[int(12 * hue)])


def _room(rng: np.random.Generator, palette: NDArray[np.float64], canvas: Canvas) -> None:
    wall, trim = palette[0], palette[rng.integers(12)]
    corner, floor = rng.uniform(-0.1, 0.6), rng.uniform(0.72, 0.95)
    canvas.box(0, 0, 1, 1, wall)
    canvas.shape([(0, 0), (corner, 0), (corner, floor), (0, 1.1)], wall * rng.uniform(0.5, 0.85))
    if rng.random() < 0.4:  # panels, tiles or wallpaper
        step = rng.uniform(0.05, 0.12)
        for at in np.arange(0, 1, step).tolist():
            canvas.line(at, 0, at, floor, 0.005, wall * 0.6)
            if step > 0.08:
                canvas.line(0, at, 1, at, 0.005, wall * 0.7)
    canvas.box(0, floor, 1, 1, palette[rng.integers(12)] * np.array([0.7, 0.55, 0.4]))
    canvas.box(0, floor - 0.035, 1, floor, np.minimum(wall * 1.4, 0.85))
    for _ in range(int(rng.integers(1, 3))):  # windows and doors
        x, y, width, tall = rng.uniform(-0.1, 0.8), rng.uniform(0, 0.25), rng.uniform(0.2, 0.4), rng.uniform(0.4, 0.65)
        frame, bright = rng.choice([0.7, 0.2, 0.45]) * np.ones(3), np.array([0.8, 0.9, 1.0]) * rng.uniform(0.3, 1)
        canvas.box(x - 0.02, y - 0.02, x + width + 0.02, y + tall + 0.03, frame)
        canvas.box(x, y, x + width, y + tall, bright)
        for n, tone in enumerate(rng.random(7).tolist()):  # what is seen outside
            canvas.oval(
                x + (n + 0.5) / 7 * width, y + tall * 0.95, 0.06, 0.03 + 0.14 * tone, 0, bright * (0.2 + 0.4 * tone)
            )
        canvas.box(x, y + tall, x + width, y + tall + 0.12, wall)
        canvas.box(x - 0.03, y + tall, x + width + 0.03, y + tall + 0.03, frame)
        bars = int(rng.integers(1, 4))
        for n in range(1, bars + 1):
            canvas.line(x + n * width / (bars + 1), y, x + n * width / (bars + 1), y + tall, 0.012, frame)
        canvas.line(x, y + tall / 2, x + width, y + tall / 2, 0.012, frame)
        if rng.random() < 0.5:
            cloth = palette[rng.integers(12)]
            for n, fold in enumerate(rng.random(8).tolist()):
                left = x - 0.06 + 0.022 * (n % 4) + (width + 0.02) * (n // 4)
                canvas.box(left, y - 0.04, left + 0.023, y + tall + 0.1, cloth * (0.6 + 0.5 * fold))
    for x, y, width, tall, hue in rng.random((int(rng.integers(2, 7)), 5)).tolist():  # pictures
        width, tall, picture = 0.07 + 0.15 * width, 0.08 + 0.15 * tall, palette[int(12 * hue)]
        canvas.box(x + 0.008, 0.5 * y + 0.012, x + width + 0.012, 0.5 * y + tall + 0.015, wall * 0.55)
        canvas.box(x, 0.5 * y, x + width, 0.5 * y + tall, trim * 0.4)
        canvas.box(x + 0.012, 0.5 * y + 0.012, x + width - 0.012, 0.5 * y + tall - 0.012, picture * 0.5 + 0.4)
        canvas.oval(x + width * 0.5, 0.5 * y + tall * 0.6, width * 0.25, tall * 0.2, 90 * hue, picture)
    for x, tall, width, hue in rng.random((int(rng.integers(2, 6)), 4)).tolist():  # furniture, lamps, plants
        top, wide, color = floor + 0.1 - 0.15 - 0.35 * tall, 0.06 + 0.2 * width, palette[int(12 * hue)]
        if hue < 0.55:
            canvas.box(x - wide, top, x + wide, floor + 0.12, color)
            canvas.box(x - wide, top, x + wide, top + 0.02, np.minimum(color * 1.6, 0.9))
            for n in range(3):
                level = top + 0.05 + n * (floor - top) / 3
                canvas.line(x - 0.9 * wide, level, x + 0.9 * wide, level, 0.005, color * 0.45)
                canvas.oval(x, level + 0.04, 0.012, 0.012, 0, color * 0.3 + 0.3)
        elif hue < 0.75:
            canvas.line(x, top, x, floor, 0.012, (0.05, 0.05, 0.05))
            canvas.shape(
                [(x - 0.05, top - 0.12), (x + 0.05, top - 0.12), (x + 0.08, top), (x - 0.08, top)], (0.95, 0.85, 0.6)
            )
        else:
            for turn, long in rng.random((14, 2)).tolist():
                angle, far = np.pi * (0.1 + 0.8 * turn), 0.1 + 0.16 * long
                tip_x, tip_y = x + far * cos(angle), floor - 0.1 - far * sin(angle)
                canvas.line(x, floor - 0.05, tip_x, tip_y, 0.006, (0.06, 0.15, 0.04))
                canvas.oval(tip_x, tip_y, 0.05, 0.018, -degrees(angle), np.array([0.08, 0.22, 0.05]) * (0.5 + long))
            canvas.box(x - 0.05, floor - 0.06, x + 0.05, floor + 0.05, color)


def _posters(rng: np.random.Generator, palette: NDArray[np.float64], canvas: Canvas) -> None:
    wall = palette[0] * 0.8
    canvas.box(0, 0, 1, 1, wall)
    across, down = rng.uniform(0.1, 0.25), rng.uniform(0.04, 0.09)
    for row in range(int(1 / down) + 1):  # bricks
        canvas.line(0, row * down, 1, row * down, 0.005, wall * 0.55)
        for n in range(int(1 / across) + 1):
            left = (n + 0.5 * (row % 2)) * across
            canvas.line(left, row * down, left, (row + 1) * down, 0.005, wall * 0.6)
    for x, y, width, tall, turn, kind in rng.random((int(rng.integers(9, 20)), 6)).tolist():
        wide, high, angle = 0.06 + 0.14 * width, 0.06 + 0.14 * tall, 0.3 * (turn - 0.5)
        paper, ink = palette[rng.integers(12)], palette[rng.integers(12)] * 0.4
        ink = ink if paper.mean() > 0.2 else ink + 0.5
        along, up = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        corners = np.array([x, y]) + np.array([-along * wide - up * high, along * wide - up * high])
        corners = np.concatenate(
            [corners, np.array([x, y]) + np.array([along * wide + up * high, up * high - along * wide])]
        )
        canvas.shape(corners + 0.01, wall * 0.4)
        canvas.shape(corners, paper)
        canvas.shape(corners * 0.9 + 0.1 * np.array([x, y]), paper * 0.8 + 0.15) if kind < 0.4 else None
        if kind < 0.3:
            canvas.oval(x, y, 0.6 * wide, 0.6 * high, 0, ink)
            canvas.oval(x, y, 0.35 * wide, 0.3 * high, 90 * turn, paper)
        elif kind < 0.6:
            for n in range(-2, 3):
                left = np.array([x, y]) - 0.8 * along * wide + up * high * n / 3
                right = left + 1.6 * along * wide
                canvas.line(left[0], left[1], right[0], right[1], 0.015, ink)
        else:
            for n in range(3):
                canvas.words(rng, x - 0.7 * wide, y - 0.7 * high + 0.45 * n * high, 1.4 * wide, 0.28 * high, ink)
