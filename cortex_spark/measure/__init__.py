"""What can be measured of a picture's bytes: hash, format, size, histogram; one decode for all that follows."""

from cortex_spark.measure.header import FORMATS, BadPictureError
from cortex_spark.measure.picture import MEASURED_SIZE, Picture, measure, upright

__all__ = ["FORMATS", "MEASURED_SIZE", "BadPictureError", "Picture", "measure", "upright"]
