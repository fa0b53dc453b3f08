"""Networks of transformers, from a local folder or the Hugging Face hub."""
