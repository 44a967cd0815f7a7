"""Why a model gives an answer, a label or a number: attributions, attention, similar training rows, and their test."""
