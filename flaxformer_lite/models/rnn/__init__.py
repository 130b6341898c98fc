"""Recurrent encoder and decoders."""
