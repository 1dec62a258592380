"""What can be measured of a picture's bytes: hash, format, size, histogram; one decode for all that follows."""

from cortex_spark.measure.picture import BadPictureError, Picture, measure

__all__ = ["BadPictureError", "Picture", "measure"]
