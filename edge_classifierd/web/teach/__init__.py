"""Teaching on the page: models with their classes and pictures, recordings, trainings and versions."""
