"""Arrays of coefficients larger than memory, and the tiles in which they are computed: under their older name."""

from wavdiff.images.disk_array import Plane as Plane
from wavdiff.images.rectangle import tiles as tiles
