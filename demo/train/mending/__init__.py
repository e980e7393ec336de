"""Fine-tunes once more, from what is wrong: from drawn mistakes, then from what they draw wrong themselves."""
