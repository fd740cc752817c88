"""Decoding: what happens between a trained model and its text. Plain functions for models of `transformers`."""
