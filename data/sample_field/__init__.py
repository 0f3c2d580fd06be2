"""A rendered field in CropAndWeed's layout: species, plants, painting, rendering.

python -m data.sample_field --dir=field --images=120
"""

from data.sample_field.rendering import draw_field, draw_session, render

__all__ = ["draw_field", "draw_session", "render"]
