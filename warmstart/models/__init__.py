"""Models: build, load and save Hugging Face models and their tokenizers."""
