"""Where events go, one file each. A new sink: copy the nearest one, add its model to ``config.schema``."""
