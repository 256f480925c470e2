"""A `Progress` for tests."""

from hubexport.progress import Progress


class Ear(Progress):
    """Records steps, notes and warnings."""

    def __init__(self):
        self.steps: list[str] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def step(self, message):
        self.steps.append(message)

    def note(self, message):
        self.notes.append(message)

    def warn(self, message):
        self.warnings.append(message)
