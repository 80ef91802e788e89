"""How a synthetic face is drawn: a person, an expression, a head, and what spoils a frame."""
