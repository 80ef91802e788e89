"""How the shipped networks are made: pretraining, distillation, the class prior, the released file."""
