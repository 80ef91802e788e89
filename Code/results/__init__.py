"""What a run leaves to look at: `figures` draws, `report` writes the page of a run's folder."""
