"""Draw one step of a profiler's trace as SVG: the CPU above the device, and a watch's part of both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch.autograd import DeviceType

OURS = "freezeinspect"  # the range that holds a watch's work on the CPU
KERNEL = "_digest"  # its kernel, by the start of the name
WIDTH, LANE, LEFT, TOP = 1000, 34, 70, 46

Spans = list[tuple[float, float]]


def drawn(events: Iterable[Any], step: str) -> str:
    """Draw the step of this name; times in the trace are in microseconds."""
    events = list(events)
    begin, end = next(span(event) for event in events if event.name == step)
    within = [event for event in events if begin <= event.time_range.start <= end and event.name != step]
    lanes = {"CPU": [event for event in within if event.device_type == DeviceType.CPU]}
    if device := [one for one in within if one.device_type == DeviceType.CUDA and not one.is_user_annotation]:
        lanes["device"] = device
        end = max(end, *(one.time_range.end for one in device))
    scale = (WIDTH - LEFT - 10) / (end - begin)
    body = [line for number, lane in enumerate(lanes.items()) for line in drawn_lane(number, *lane, begin, scale)]
    height = TOP + LANE * len(lanes) + 34
    legend = f"one watched step, {(end - begin) / 1000:.1f} ms; dark: the training, orange: the watch"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
            'font-size="13">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="{LEFT}" y="24">{legend}</text>',
            *body,
            *axis(end - begin, scale, height - 26),
            "</svg>\n",
        ]
    )


def drawn_lane(number: int, name: str, events: list[Any], begin: float, scale: float) -> Iterator[str]:
    y = TOP + LANE * number
    yield f'<text x="8" y="{y + 17}">{name}</text>'
    ours = [span(event) for event in events if event.name == OURS or event.name.startswith(KERNEL)]
    for color, spans in (("#44546a", [span(event) for event in events]), ("#e8710a", ours)):
        for start, stop in merged(spans, 0.3 / scale):
            x, width = LEFT + scale * (start - begin), max(0.5, scale * (stop - start))
            yield f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="24" fill="{color}"/>'


def axis(length: float, scale: float, y: float) -> Iterator[str]:
    """Mark five times, in milliseconds."""
    for part in range(5):
        x = LEFT + scale * length * part / 4
        yield f'<text x="{x:.0f}" y="{y + 14}" text-anchor="middle" fill="#555">{length * part / 4000:.1f} ms</text>'


def span(event: Any) -> tuple[float, float]:
    return event.time_range.start, event.time_range.end


def merged(spans: Spans, gap: float) -> Spans:
    """Make one of the spans that lie within a gap of each other, which no eye would tell apart."""
    found: Spans = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1] + gap:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
