"""What a training run is made of, behind ``nbconv.Trainer``."""
