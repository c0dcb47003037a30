import pytest
from module_events import simulated_hits


@pytest.fixture(scope="session")
def simulated():
    """Hits of events of one track and uniform noise, and the tracks; see `simulated_hits`."""
    return simulated_hits()
