"""Its import says that it has begun, and goes on when it is let go."""

from tests.helpers.waiting import until
from tests.tasks import folder

(folder() / "importing").touch()
until((folder() / "import").exists)


def nothing() -> None:
    """Do nothing."""
