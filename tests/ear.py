"""What hears of the progress of work, for tests."""

from hubexport.progress import Progress


class Ear(Progress):
    """Keeps the steps and the warnings that it hears."""

    def __init__(self):
        self.steps: list[str] = []
        self.warnings: list[str] = []

    def step(self, message):
        self.steps.append(message)

    def warn(self, message):
        self.warnings.append(message)
