"""Import and export of pretrained models: Hugging Face directories and CTranslate2."""
