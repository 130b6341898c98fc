"""Published model families: their config keys and tensor names, mapped to those of this package."""
