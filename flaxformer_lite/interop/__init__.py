"""Models and vocabularies of others, in and out: folders as Hugging Face's libraries keep them, and CTranslate2's."""
