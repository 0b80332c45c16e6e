"""Training: closed-loop material made by the codec itself, then tokenizer and prior trained on it."""
