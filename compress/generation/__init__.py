"""Teachers that write: texts in place of logits, for students with any tokenizer and from teachers without weights."""
